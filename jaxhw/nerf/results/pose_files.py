"""The cameras of a run as files that others read: COLMAP's model in text, and nerfstudio's transforms.json.

Poses are in the capture's own frame (`Scene.to_capture`), for pictures of the size that the run was trained on: whoever
reads them with larger copies scales their lenses, as jaxhw does by itself. In shapes, n counts cameras.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from jaxhw import files
from jaxhw.nerf.cameras import alignment
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.scenes.formats import transforms
from jaxhw.nerf.scenes.frames import OPENGL_TO_OPENCV
from jaxhw.nerf.scenes.scene import Scene

MODEL = "sparse/0"
IMAGES = "images"
# Ours as COLMAP's: the simplest model with two focal lengths that has all of ours as its special cases.
COLMAP = {"PINHOLE": "PINHOLE", "BROWN": "FULL_OPENCV", "OPENCV_FISHEYE": "OPENCV_FISHEYE"}
# nerfstudio's names of a distortion's coefficients, in our order.
COEFFICIENTS = {"OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"), "BROWN": ("k1", "k2", "p1", "p2", "k3")}


def write(out: Path, cameras: Cameras, scene: Scene) -> list[Path]:
    """Writes sparse/0 and transforms.json into a folder beside which, or in which, the pictures lie in images/.

    Args:
      cameras: of all the scene's frames, in the scene's frame.

    Returns:
      The files.
    """
    poses = alignment.moved_poses(cameras.pose, scene.to_capture)
    cameras, names = cameras.replace(pose=poses), [_below_images(name) for name in scene.names]
    files.make_folder(out / MODEL, "--out")
    texts = {
        f"{MODEL}/cameras.txt": _camera_lines(cameras),
        f"{MODEL}/images.txt": _image_lines(cameras, names),
        f"{MODEL}/points3D.txt": ["# No points: the cameras were refined without them."],
    }
    for name, lines in texts.items():
        files.write(out / name, "\n".join([*lines, ""]))
    files.write_json(out / transforms.FILE, _transforms(cameras, names, scene.split))
    return [out / name for name in (*texts, transforms.FILE)]


def _below_images(name: str) -> str:
    """A picture's name as COLMAP has it: seen from the folder of all pictures."""
    path = PurePosixPath(name)
    return path.relative_to(IMAGES).as_posix() if path.parts[0] == IMAGES else path.as_posix()


def _camera_lines(cameras: Cameras) -> list[str]:
    """A camera for each picture, since each may have its own lens."""
    lines = ["# Camera list: CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for i in range(len(cameras)):
        camera = cameras[i]
        model = COLMAP.get(camera.model, "OPENCV")
        distortion = [] if model == "PINHOLE" else [float(k) for k in camera.distortion]
        if model == "FULL_OPENCV":
            distortion += [0.0] * (8 - len(distortion))
        numbers = [*map(float, camera.focal), *map(float, camera.centre), *distortion]
        lines.append(f"{i + 1} {model} {camera.width} {camera.height} {' '.join(map(repr, numbers))}")
    return lines


def _image_lines(cameras: Cameras, names: Sequence[str]) -> list[str]:
    """Two lines an image, the second, of its points, empty; poses are from the world to the camera."""
    lines = ["# Image list: IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; an empty line"]
    for i, name in enumerate(names):
        rotation = Rotation.from_matrix(cameras.pose[i, :, :3]).inv()
        x, y, z, w = rotation.as_quat()
        position = -rotation.apply(cameras.pose[i, :, 3])
        numbers = " ".join(repr(float(v)) for v in (w, x, y, z, *position))
        lines += [f"{i + 1} {numbers} {i + 1} {name}", ""]
    return lines


def _transforms(cameras: Cameras, names: Sequence[str], split: dict[str, np.ndarray]) -> dict[str, Any]:
    """transforms.json, with OpenGL's camera axes and the run's split."""
    fisheye = cameras.model == "OPENCV_FISHEYE"
    paths = [f"{IMAGES}/{name}" for name in names]
    splits = {f"{part}_filenames": [paths[i] for i in rows] for part, rows in split.items() if len(rows)}
    entries = [_entry(cameras[i], path) for i, path in enumerate(paths)]
    return {"camera_model": "OPENCV_FISHEYE" if fisheye else "OPENCV", **splits, "frames": entries}


def _entry(camera: Cameras, path: str) -> dict[str, Any]:
    matrix = np.eye(4)
    matrix[:3] = np.concatenate([camera.pose[:, :3] @ OPENGL_TO_OPENCV, camera.pose[:, 3:]], 1)
    names = COEFFICIENTS.get(camera.model, ("k1", "k2", "p1", "p2"))
    return {
        "file_path": path,
        "w": camera.width,
        "h": camera.height,
        "fl_x": float(camera.focal[0]),
        "fl_y": float(camera.focal[1]),
        "cx": float(camera.centre[0]),
        "cy": float(camera.centre[1]),
        **{name: float(k) for name, k in zip(names, camera.distortion, strict=True)},
        "transform_matrix": matrix.tolist(),
    }
