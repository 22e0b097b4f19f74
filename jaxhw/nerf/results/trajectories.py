"""Camera paths for videos, made from the training cameras: orbit, ellipse, spiral, interpolation, nerfstudio's JSON.

Each function takes n training cameras and returns pinhole cameras of the same picture size, one a frame.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation, RotationSpline

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.cameras.normalise import centre_of, up_direction
from jaxhw.nerf.scenes.frames import OPENGL_TO_OPENCV, Frame, Lens, check, focal_from_angle, read_json

FULL_CIRCLE_GAP = np.pi / 2  # cameras that leave a wider gap than this in their ring are an arc


def make(path: str, cameras: Cameras, frames: int, to_capture: np.ndarray | None = None) -> Cameras:
    """The path that `path` names: one of `PATHS`, or a nerfstudio camera path's file (which has its own frames).

    `to_capture` is the scene's (None: the same frame), for a file.
    """
    if path in PATHS:
        if frames < 1:
            raise UserError(f"frames={frames} must be 1 or more")
        return PATHS[path](cameras, frames)
    if path.endswith(".json"):
        return from_json(Path(path).expanduser(), np.eye(4) if to_capture is None else to_capture)
    raise UserError(f"path {path!r} is unknown: choose {', '.join(PATHS)} or a nerfstudio camera path (FILE.json)")


def orbit(cameras: Cameras, frames: int) -> Cameras:
    """Around the point that the cameras look at, at their mean distance and elevation.

    Once around if the cameras are all around; else to and fro within the arc that they cover, so that the path stays
    where there were pictures. Either way the last frame leads back to the first.
    """
    poses = np.asarray(cameras.pose, np.float64)
    centre, axes = _ring(poses)
    offsets = (poses[:, :, 3] - centre) @ axes.T
    distance = np.linalg.norm(offsets, axis=1)
    elevation = np.arcsin(offsets[:, 2] / distance).mean()
    start, length = _arc(np.arctan2(offsets[:, 1], offsets[:, 0]))
    phase = np.arange(frames) / frames
    azimuth = start + length * (phase if length == 2 * np.pi else 0.5 - 0.5 * np.cos(2 * np.pi * phase))
    flat, high = np.cos(elevation), np.full(frames, np.sin(elevation))
    out = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), high], 1)
    return _pinholes(cameras, look_at(centre + distance.mean() * out @ axes, centre, axes[2]))


def ellipse(cameras: Cameras, frames: int) -> Cameras:
    """mip-NeRF 360's: level, around the look-at point, as wide as 90 % of the cameras, at constant speed."""
    poses = np.asarray(cameras.pose, np.float64)
    centre, axes = _ring(poses)
    offsets = (poses[:, :, 3] - centre) @ axes.T
    wide, deep = np.percentile(np.abs(offsets[:, :2]), 90, axis=0)
    angle = np.linspace(0, 2 * np.pi, 1000)
    outline = np.stack([wide * np.cos(angle), deep * np.sin(angle), np.full(1000, offsets[:, 2].mean())], 1)
    travelled = np.cumsum(np.linalg.norm(np.diff(outline, axis=0, prepend=outline[:1]), axis=1))
    even = np.interp(np.arange(frames) / frames * travelled[-1], travelled, angle)
    local = np.stack([wide * np.cos(even), deep * np.sin(even), np.full(frames, outline[0, 2])], 1)
    return _pinholes(cameras, look_at(centre + local @ axes, centre, axes[2]))


def spiral(cameras: Cameras, frames: int) -> Cameras:
    """LLFF's: two turns about the most central camera, looking at one point in front of it.

    As wide as 90 % of the cameras are off that camera, and at most a fifth of the distance to what it looks at.
    """
    poses = np.asarray(cameras.pose, np.float64)
    middle = poses[np.argmax(poses[:, :, 2] @ poses[:, :, 2].mean(0))]
    depth = np.linalg.norm(centre_of(poses) - middle[:, 3])
    offsets = (poses[:, :, 3] - middle[:, 3]) @ middle[:, :3]
    radii = np.minimum(np.percentile(np.abs(offsets), 90, axis=0), depth / 5)
    t = 4 * np.pi * np.arange(frames) / frames
    local = np.stack([np.cos(t), np.sin(t), np.sin(t / 2)], 1) * radii
    target = middle[:, 3] + depth * middle[:, 2]
    return _pinholes(cameras, look_at(middle[:, 3] + local @ middle[:, :3].T, target, -middle[:, 1]))


def interpolate(cameras: Cameras, frames: int) -> Cameras:
    """Through all cameras, from each to the nearest not yet visited, at constant speed."""
    poses = np.asarray(cameras.pose, np.float64)
    poses = poses[_nearest_first(poses)]
    if len(poses) == 1:
        return _pinholes(cameras, np.repeat(poses, frames, 0))
    time = np.concatenate([[0], np.cumsum(1e-6 + _apart(poses[:-1], poses[1:], _extent(poses)))])
    at = np.linspace(0, time[-1], frames)
    position = PchipInterpolator(time, poses[:, :, 3])(at)
    rotation = RotationSpline(time, Rotation.from_matrix(poses[:, :, :3]))(at).as_matrix()
    return _pinholes(cameras, np.concatenate([rotation, position[:, :, None]], 2))


def from_json(path: Path, to_capture: np.ndarray) -> Cameras:
    """nerfstudio's camera path.

    Its viewer writes poses in the frame that nerfstudio trained in, which only the run's dataparser_transforms.json
    relates to the capture's: with a copy of that file beside the path, they are brought from there into the capture's
    frame (COLMAP's, where transforms.json has its applied_transform). Without, they are taken as in the capture's own
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
    return _cameras(poses, np.array([stop.lens.focal for stop in stops]), *size)


def _stop(path: Path, number: int, stop: Mapping[str, Any], size: tuple[int, int]) -> Frame:
    """One camera of a path, unchecked but for its angle of view, which is vertical and in degrees."""
    name = f"{path}: camera {number}"
    pose = np.array(stop["camera_to_world"], float).reshape(4, 4)[:3]
    if not 0 < stop["fov"] < 180:
        raise UserError(f"{name} has a field of view of {stop['fov']} degrees: it must be between 0 and 180")
    focal = focal_from_angle(math.radians(stop["fov"]), size[1])
    pose = np.concatenate([pose[:, :3] @ OPENGL_TO_OPENCV, pose[:, 3:]], 1)
    return Frame(path, name, pose, Lens(size, (focal, focal), (size[0] / 2, size[1] / 2)))


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


PATHS: dict[str, Callable[[Cameras, int], Cameras]] = {
    "orbit": orbit,
    "ellipse": ellipse,
    "spiral": spiral,
    "interpolate": interpolate,
}


def look_at(positions: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """[n, 3, 4] poses of cameras at positions [n, 3] that look at a point, their pictures upright."""
    z = target - positions
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    x = np.cross(z, up)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(z, x), z, positions], 2)


def _ring(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(centre [3], axes [3, 3]): the rows are the directions in which the cameras spread most and less, and up."""
    centre, up = centre_of(poses), up_direction(poses)
    level = (poses[:, :, 3] - centre) @ (np.eye(3) - np.outer(up, up))
    wide = np.linalg.svd(level)[2][0]
    wide -= up * (wide @ up)
    wide /= np.linalg.norm(wide)
    return centre, np.stack([wide, np.cross(up, wide), up])


def _arc(azimuth: np.ndarray) -> tuple[float, float]:
    """(start, length) in radians of the arc that angles cover: a full circle from the first if they are all around."""
    ordered = np.sort(azimuth % (2 * np.pi))
    gaps = np.diff(ordered, append=ordered[0] + 2 * np.pi)
    widest = gaps.argmax()
    if gaps[widest] <= FULL_CIRCLE_GAP:
        return float(azimuth[0]), 2 * np.pi
    return float(ordered[(widest + 1) % len(ordered)]), float(2 * np.pi - gaps[widest])


def _nearest_first(poses: np.ndarray) -> list[int]:
    order, left = [0], set(range(1, len(poses)))
    extent = _extent(poses)
    while left:
        rest = sorted(left)
        order.append(rest[_apart(poses[order[-1]], poses[rest], extent).argmin()])
        left.remove(order[-1])
    return order


def _extent(poses: np.ndarray) -> float:
    return np.linalg.norm(poses[:, :, 3] - poses[:, :, 3].mean(0), axis=1).max() or 1.0


def _apart(a: np.ndarray, b: np.ndarray, extent: float) -> np.ndarray:
    """How far poses are apart: distance in units of `extent` and the angle between their axes in radians, added."""
    cosine = (a[..., :, 2] * b[..., :, 2]).sum(-1)
    return np.linalg.norm(a[..., 3] - b[..., 3], axis=-1) / extent + np.arccos(np.clip(cosine, -1, 1))


def _pinholes(like: Cameras, poses: np.ndarray) -> Cameras:
    focal = np.broadcast_to(np.mean(like.focal, axis=0), (len(poses), 2))
    return _cameras(poses, focal, like.width, like.height)


def _cameras(poses: np.ndarray, focal: np.ndarray, width: int, height: int) -> Cameras:
    n = len(poses)
    centre = np.tile([width / 2, height / 2], (n, 1))
    return Cameras(*(np.asarray(a, np.float32) for a in (poses, focal, centre, np.zeros((n, 4)))), width, height)
