"""The scene that a capture leaves: transforms.json, for jaxhw, nerfstudio and instant-ngp, beside COLMAP's model."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxhw import files
from jaxhw.nerf.scenes.formats import colmap, transforms
from jaxhw.nerf.scenes.frames import OPENGL_TO_OPENCV, Frame

PLY = "sparse_pc.ply"
# nerfstudio's names of our models; it knows no simpler ones, which are special cases.
MODELS = {"PINHOLE": "OPENCV", "SIMPLE_RADIAL": "OPENCV", "RADIAL": "OPENCV", "OPENCV": "OPENCV"}


def write(out: Path) -> list[str]:
    """Writes transforms.json for the model in `out`/sparse/0; returns the names of the pictures in it.

    Poses are in COLMAP's frame, with OpenGL's camera axes, as the format has them. What all cameras have in common
    stands once, at the top.
    """
    frames = colmap.read(out).frames
    cameras = [_camera(frame) for frame in frames]
    shared = cameras[0] if all(camera == cameras[0] for camera in cameras) else {}
    entries = [_entry(out, frame) | ({} if shared else camera) for frame, camera in zip(frames, cameras, strict=True)]
    # aabb_scale: how far around its unit cube instant-ngp looks; a capture is unbounded.
    whole = {"camera_model": cameras[0]["camera_model"], "aabb_scale": 16, **shared}
    whole |= {"applied_transform": np.eye(3, 4).tolist(), "ply_file_path": PLY}
    files.write_json(out / transforms.FILE, whole | {"frames": entries})
    return [frame.name for frame in frames]


def _camera(frame: Frame) -> dict[str, Any]:
    lens = frame.lens
    names = ("k1", "k2", "k3", "k4") if lens.model == "OPENCV_FISHEYE" else ("k1", "k2", "p1", "p2")
    return {
        "camera_model": MODELS.get(lens.model, lens.model),
        "w": int(lens.size[0]),
        "h": int(lens.size[1]),
        "fl_x": lens.focal[0],
        "fl_y": lens.focal[1],
        "cx": lens.centre[0],
        "cy": lens.centre[1],
        **dict(zip(names, lens.distortion, strict=True)),
    }


def _entry(out: Path, frame: Frame) -> dict[str, Any]:
    matrix = np.eye(4)
    matrix[:3] = np.concatenate([frame.pose[:, :3] @ OPENGL_TO_OPENCV, frame.pose[:, 3:]], 1)
    name = frame.path.relative_to(out).as_posix()
    mask = out / "masks" / f"{frame.path.relative_to(out / 'images').as_posix()}.png"
    entry = {"file_path": name, "transform_matrix": matrix.tolist()}
    return entry | ({"mask_path": mask.relative_to(out).as_posix()} if mask.is_file() else {})
