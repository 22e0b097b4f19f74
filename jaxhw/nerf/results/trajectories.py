"""Camera paths for videos, made from the training cameras: orbit, ellipse, spiral, interpolation, nerfstudio's JSON.

Each function takes n training cameras and returns m pinhole cameras, one a frame of the video. Their pictures have the
size that is most common among the training cameras.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation, RotationSpline

from jaxhw import options
from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.cameras.normalise import axes_are_parallel, centre_of
from jaxhw.nerf.results import camera_path
from jaxhw.nerf.results.camera_path import pinhole_cameras

UP = np.array([0.0, 0.0, 1.0])  # a scene's, however its cameras were held
STEEP = 0.9  # cosine between an optical axis and the vertical from which on a picture's top is no longer up
ROLL = np.pi / 6  # a camera within this of a quarter turn about its axis was held on its side
FULL_CIRCLE_GAP = np.pi / 2  # cameras that leave a wider gap than this in their ring are an arc


def make(path: str, cameras: Cameras, frames: int, to_capture: np.ndarray | None = None) -> Cameras:
    """The path that `path` names: one of `PATHS`, or the file of a nerfstudio camera path (which has its frames in it).

    `to_capture` is the scene's (None: the same frame), for a file.
    """
    if path in PATHS:
        options.require("frames", frames, options.at_least(1), kind=int)
        with np.errstate(invalid="ignore", divide="ignore"):
            made = PATHS[path](held_upright(cameras), frames)
        if not np.isfinite(made.pose).all():
            raise UserError(
                f"these cameras make no {path}: they are at one place, or where they look at; try another path"
            )
        return made
    if path.endswith(".json"):
        return camera_path.read(Path(path).expanduser(), np.eye(4) if to_capture is None else to_capture)
    raise UserError(f"path {path!r} is unknown: choose {', '.join(PATHS)} or a nerfstudio camera path (FILE.json)")


def orbit(cameras: Cameras, frames: int) -> Cameras:
    """Around the point that the cameras look at, at their mean distance and elevation.

    Once around if the cameras are all around; else to and fro within the arc that they cover, so that the path stays
    where there were pictures. Either way the last frame leads back to the first.
    """
    poses = np.asarray(cameras.pose, np.float64)
    centre, axes = _ring(poses)
    offsets = (poses[:, :, 3] - centre) @ axes.T

    # The ring: the cameras' mean distance and elevation, and the arc of azimuths that they cover.
    distance = np.linalg.norm(offsets, axis=1)
    elevation = np.arcsin(offsets[:, 2] / distance).mean()
    start, length = _arc(np.arctan2(offsets[:, 1], offsets[:, 0]))

    # Even steps around a full circle; on an arc a cosine, which slows down where the path turns back.
    phase = np.arange(frames) / frames
    azimuth = start + length * (phase if length == 2 * np.pi else 0.5 - 0.5 * np.cos(2 * np.pi * phase))

    # From angles to unit vectors from the centre, in the ring's axes.
    flat, high = np.cos(elevation), np.full(frames, np.sin(elevation))
    out = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), high], 1)
    return _pinholes(cameras, look_at(centre + distance.mean() * out @ axes, centre, axes[2]))


def ellipse(cameras: Cameras, frames: int) -> Cameras:
    """mip-NeRF 360's: level, around the look-at point, as wide as 90 % of the cameras, at constant speed."""
    poses = np.asarray(cameras.pose, np.float64)
    centre, axes = _ring(poses)
    offsets = (poses[:, :, 3] - centre) @ axes.T
    wide, deep = np.percentile(np.abs(offsets[:, :2]), 90, axis=0)

    # An ellipse has no closed form of its arc length: sample the outline and invert the length travelled along it.
    angle = np.linspace(0, 2 * np.pi, 1000)
    outline = np.stack([wide * np.cos(angle), deep * np.sin(angle), np.full(1000, offsets[:, 2].mean())], 1)
    travelled = np.cumsum(np.linalg.norm(np.diff(outline, axis=0, prepend=outline[:1]), axis=1))
    even = np.interp(np.arange(frames) / frames * travelled[-1], travelled, angle)

    # The cameras' places on it, in the ring's axes.
    local = np.stack([wide * np.cos(even), deep * np.sin(even), np.full(frames, outline[0, 2])], 1)
    return _pinholes(cameras, look_at(centre + local @ axes, centre, axes[2]))


def spiral(cameras: Cameras, frames: int) -> Cameras:
    """LLFF's: two turns about the most central camera, looking at one point in front of it.

    As wide as 90 % of the cameras are off that camera, and at most a fifth of the distance to what it looks at.
    """
    poses = np.asarray(cameras.pose, np.float64)

    # The most central camera is the one whose optical axis is nearest to the mean of all; depth is how far it is from
    # what the capture is about.
    middle = poses[np.argmax(poses[:, :, 2] @ poses[:, :, 2].mean(0))]
    depth = np.linalg.norm(_centre(poses) - middle[:, 3])

    # The spiral, in that camera's axes.
    offsets = (poses[:, :, 3] - middle[:, 3]) @ middle[:, :3]
    radii = np.minimum(np.percentile(np.abs(offsets), 90, axis=0), depth / 5)
    t = 4 * np.pi * np.arange(frames) / frames
    local = np.stack([np.cos(t), np.sin(t), np.sin(t / 2)], 1) * radii
    target = middle[:, 3] + depth * middle[:, 2]
    return _pinholes(cameras, look_at(middle[:, 3] + local @ middle[:, :3].T, target, -middle[:, 1]))


def interpolate(cameras: Cameras, frames: int) -> Cameras:
    """Through all cameras, from each to the nearest not yet visited, at constant speed."""
    return smooth(cameras[_nearest_first(np.asarray(cameras.pose, np.float64))], frames)


def smooth(cameras: Cameras, frames: int) -> Cameras:
    """Through all cameras in their order, at constant speed."""
    poses = np.asarray(cameras.pose, np.float64)
    if len(poses) == 1:
        return _pinholes(cameras, np.repeat(poses, frames, 0))

    # Time at each camera: how far it is from the first, along the order of visit. The 1e-6 keeps times apart where
    # cameras are in one place.
    time = np.concatenate([[0], np.cumsum(1e-6 + _apart(poses[:-1], poses[1:], _extent(poses)))])

    # Positions by a monotone cubic, which does not overshoot; rotations by a spline of smooth angular velocity.
    at = np.linspace(0, time[-1], frames)
    position = PchipInterpolator(time, poses[:, :, 3])(at)
    rotation = RotationSpline(time, Rotation.from_matrix(poses[:, :, :3]))(at).as_matrix()
    return _pinholes(cameras, np.concatenate([rotation, position[:, :, None]], 2))


PATHS: dict[str, Callable[[Cameras, int], Cameras]] = {
    "orbit": orbit,
    "ellipse": ellipse,
    "spiral": spiral,
    "interpolate": interpolate,
}


def held_upright(cameras: Cameras) -> Cameras:
    """The cameras turned about their optical axes by the quarter turns by which they were held, with their pictures.

    Portraits that were calibrated with their stored pixels lie on their side in the scene.
    """
    pose = np.asarray(cameras.pose)
    # Angle from the top of the picture to up, clockwise; for a camera that looks straight down there is none.
    roll = np.arctan2(pose[:, 2, 0], -pose[:, 2, 1])
    quarters = np.round(roll / (np.pi / 2))
    clear = (np.abs(roll - quarters * np.pi / 2) < ROLL) & (np.abs(pose[:, 2, 2]) < STEEP)
    quarters = np.where(clear, quarters, 0).astype(int) % 4
    if not quarters.any():
        return cameras
    turns = Rotation.from_rotvec(np.outer(quarters, [0, 0, np.pi / 2])).as_matrix()
    turned = np.concatenate([pose[:, :, :3] @ turns, pose[:, :, 3:]], 2).astype(np.float32)
    exchanged = (quarters % 2 == 1)[:, None]
    size, focal = (np.where(exchanged, a[:, ::-1], a) for a in (np.asarray(cameras.size), np.asarray(cameras.focal)))
    return cameras.replace(pose=turned, size=size, focal=focal)


def look_at(positions: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """[n, 3, 4] poses of cameras at positions [n, 3] that look at a point, their pictures upright."""
    z = target - positions
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    x = np.cross(z, up)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(z, x), z, positions], 2)


def _ring(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(centre [3], axes [3, 3]): the rows are the directions in which the cameras spread most and less, and up."""
    centre, up = _centre(poses), UP
    level = (poses[:, :, 3] - centre) @ (np.eye(3) - np.outer(up, up))
    wide = np.linalg.svd(level)[2][0]
    wide -= up * (wide @ up)
    wide /= np.linalg.norm(wide)
    return centre, np.stack([wide, np.cross(up, wide), up])


def _centre(poses: np.ndarray) -> np.ndarray:
    """[3] what the cameras are around; where they are parallel, the scene's centre is all that is known of it."""
    if axes_are_parallel(poses):
        in_front = ((-poses[:, :, 3]) * poses[:, :, 2]).sum(1) > 0
        if in_front.all():
            return np.zeros(3)
    return centre_of(poses)[0]


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
    """Cameras at poses [m, 3, 4] whose pictures are those of most of the given cameras: their size, and mean focal
    length."""
    size, rows = _most_common_size(like)
    focal = np.broadcast_to(np.mean(like.focal[rows], axis=0), (len(poses), 2))
    return pinhole_cameras(poses, focal, size)


def _most_common_size(cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """(size [2], which cameras have it: bool [n]); of sizes equally common, that of the first camera."""
    sizes, first, counts = np.unique(np.asarray(cameras.size), axis=0, return_index=True, return_counts=True)
    chosen = sizes[np.lexsort((first, -counts))[0]]
    return chosen, (np.asarray(cameras.size) == chosen).all(1)
