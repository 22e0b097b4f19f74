"""Camera paths for videos, made from the training cameras: orbit, ellipse, spiral, interpolation, nerfstudio's JSON.

Each function takes n training cameras and returns pinhole cameras of the same picture size, one a frame.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation, RotationSpline

from jaxhw.errors import UserError
from jaxhw.nerf.cameras import Cameras
from jaxhw.nerf.frames import OPENGL_TO_OPENCV, focal_from_angle, read_json
from jaxhw.nerf.normalise import centre_of, up_direction

FULL_CIRCLE_GAP = np.pi / 2  # cameras that leave a wider gap than this in their ring are an arc


def make(path: str, cameras: Cameras, frames: int) -> Cameras:
    """The path that `path` names: one of `PATHS`, or a nerfstudio camera path's file (which has its own frames)."""
    if path in PATHS:
        if frames < 1:
            raise UserError(f"frames={frames} must be 1 or more")
        return PATHS[path](cameras, frames)
    if path.endswith(".json"):
        return from_json(Path(path).expanduser())
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


def from_json(path: Path) -> Cameras:
    """nerfstudio's camera path, its poses taken as in the scene's own frame.

    Raises:
      UserError: the file is no camera path, or one of a camera that is not a perspective one.
    """
    content = read_json(path)
    try:
        kind = content.get("camera_type", "perspective")
        if kind != "perspective":
            raise UserError(f"{path} has camera type {kind}, which is not supported: perspective is")
        width, height = int(content["render_width"]), int(content["render_height"])
        stops = content["camera_path"]
        poses = np.array([stop["camera_to_world"] for stop in stops], float).reshape(-1, 4, 4)[:, :3]
        focal = [[focal_from_angle(np.radians(stop["fov"]), height)] * 2 for stop in stops]  # fov is vertical
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is not a camera path as nerfstudio writes it: {what}") from error
    if not len(poses) or min(width, height) < 1:
        raise UserError(f"{path} is an empty camera path: {len(poses)} frames of {width} x {height} pixels")
    poses[:, :, :3] = poses[:, :, :3] @ OPENGL_TO_OPENCV
    return _cameras(poses, np.array(focal), width, height)


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
