"""nerfstudio's camera paths, read and written: the JSON of its viewer, which `ns-render camera-path` reads."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxhw import files
from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.scenes.frames import OPENGL_TO_OPENCV, Frame, Lens, check, focal_from_angle, read_json


def read(path: Path, to_capture: np.ndarray) -> Cameras:
    """nerfstudio's camera path.

    Its viewer writes poses in the frame that nerfstudio trained in, which only the run's dataparser_transforms.json
    relates to the capture's: with a copy of that file beside the path, they are brought from there into the capture's
    frame (COLMAP's, where transforms.json has its applied_transform). Without, they are taken as in the capture's
    frame. `to_capture` [4, 4] leads from the scene's frame to that.

    Raises:
      UserError: the file is no camera path, or one of a camera that is not a perspective one.
    """
    content = read_json(path)
    try:
        kind = content.get("camera_type", "perspective")
        if kind != "perspective":
            raise UserError(f"{path} has camera type {kind}, which is not supported: perspective is")
        size = int(content["render_width"]), int(content["render_height"])
        stops = [_stop(path, i, stop, size) for i, stop in enumerate(content["camera_path"])]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is not a camera path as nerfstudio writes it: {what}") from error
    if not stops:
        raise UserError(f"{path} is an empty camera path")
    for stop in stops:
        check(stop)
    poses = _moved(np.stack([stop.pose for stop in stops]), np.linalg.inv(to_capture) @ _from_nerfstudio(path.parent))
    return pinhole_cameras(poses, np.array([stop.lens.focal for stop in stops]), np.array(size))


def write(path: Path, cameras: Cameras, to_capture: np.ndarray, fps: float) -> None:
    """Writes pinhole cameras [m] as a path of so many frames a second, in the capture's frame, from which `read` comes.

    `to_capture` [4, 4] leads from the cameras' frame to that.
    """
    width, height = (int(side) for side in cameras.size[0])
    poses = _moved(np.asarray(cameras.pose, np.float64), to_capture)
    poses[:, :, :3] = poses[:, :, :3] @ OPENGL_TO_OPENCV  # its own inverse
    angles = np.degrees(2 * np.arctan(height / 2 / np.asarray(cameras.focal, np.float64)[:, 1]))
    stops = [
        {"camera_to_world": [*pose.ravel().tolist(), 0, 0, 0, 1], "fov": angle, "aspect": width / height}
        for pose, angle in zip(poses, angles.tolist(), strict=True)
    ]
    content = {"camera_type": "perspective", "render_width": width, "render_height": height, "fps": fps}
    timing = {"seconds": len(stops) / fps, "is_cycle": False, "smoothness_value": 0.0, "keyframes": []}
    files.write_json(path, content | timing | {"camera_path": stops})


def _stop(path: Path, number: int, stop: Mapping[str, Any], size: tuple[int, int]) -> Frame:
    """One camera of a path, unchecked but for its angle of view, which is vertical and in degrees."""
    name = f"{path}: camera {number}"
    pose = np.array(stop["camera_to_world"], float).reshape(4, 4)[:3]
    if not 0 < stop["fov"] < 180:
        raise UserError(f"{name} has a field of view of {stop['fov']} degrees: it must be between 0 and 180")
    focal = focal_from_angle(math.radians(stop["fov"]), size[1])
    pose = np.concatenate([pose[:, :3] @ OPENGL_TO_OPENCV, pose[:, 3:]], 1)
    lens = Lens(size=size, focal=(focal, focal), centre=(size[0] / 2, size[1] / 2))
    return Frame(path=path, name=name, pose=pose, lens=lens)


def _from_nerfstudio(folder: Path) -> np.ndarray:
    """[4, 4] from the frame that nerfstudio trained in to the capture's: x_trained = scale * transform @ (x, 1)."""
    path = folder / "dataparser_transforms.json"
    if not path.is_file():
        return np.eye(4)
    content = read_json(path)
    try:
        scale, transform = float(content["scale"]), np.array(content["transform"], float).reshape(3, 4)
        if not (0 < scale < math.inf and np.isfinite(transform).all() and _is_rotation(transform[:, :3])):
            raise ValueError("a rotation with a position and a scale greater than 0 are expected")
        return np.linalg.inv(np.concatenate([scale * transform, [[0, 0, 0, 1]]]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no transform and scale as nerfstudio writes them: {error}") from error


def _is_rotation(matrix: np.ndarray) -> bool:
    return np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-3) and np.linalg.det(matrix) > 0


def _moved(poses: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Poses [n, 3, 4] in another frame, to which a similarity [4, 4] leads."""
    turned = similarity[:3, :3] @ poses
    turned[:, :, :3] /= np.cbrt(np.linalg.det(similarity[:3, :3]))
    turned[:, :, 3] += similarity[:3, 3]
    return turned


def pinhole_cameras(poses: np.ndarray, focal: np.ndarray, size: np.ndarray) -> Cameras:
    """Pinholes at poses [m, 3, 4] with focal lengths [m, 2], the optical axes through their pictures' middles."""
    m = len(poses)
    size = np.tile(np.asarray(size, np.int32), (m, 1))
    return Cameras(
        pose=np.asarray(poses, np.float32),
        focal=np.asarray(focal, np.float32),
        centre=np.asarray(size / 2, np.float32),
        distortion=np.zeros((m, 4), np.float32),
        size=size,
    )
