"""Where a capture's cameras lie in the frame of training, and which way its pictures are turned."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxhw.decoding import TURNED
from jaxhw.errors import UserError
from jaxhw.nerf.cameras.normalise import (
    at_one_place,
    axes_are_parallel,
    centre_of,
    far_from,
    nearest_rotation,
    normalise,
    up_direction,
)
from jaxhw.nerf.scenes import points as sparse
from jaxhw.nerf.scenes.decoding import orientation, picture_size
from jaxhw.nerf.scenes.frames import Capture, Frame, listed

# Those of NeRF's synthetic scenes, whose cameras are so far from their objects.
SYNTHETIC_NEAR, SYNTHETIC_FAR, SYNTHETIC_DISTANCE = 2.0, 6.0, 4.0311
SNAP = 0.02  # cameras that are at the synthetic scenes' distance but for this have exactly their near and far
NEAR, FAR = 0.05, 1000.0  # nerfacto's, where all cameras are in [-1, 1]^3 and the format knows no better

# The axes (right, down, forward) of the upright picture, in those of the stored pixels, for EXIF's orientations.
HELD = {
    3: np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]]),
    6: np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
    8: np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
}


@dataclasses.dataclass(frozen=True)
class Placed:
    """Poses [n, 3, 4] in the frame of training, with the scene's near, far and to_capture, and lines for the user.

    `points` [k, 3] float32 are the capture's in the same frame. `near` is a guess where `guessed`.
    """

    poses: np.ndarray
    near: float
    far: float
    to_capture: np.ndarray
    notes: tuple[str, ...] = ()
    points: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 3), np.float32))
    guessed: bool = False


def placed(capture: Capture, folder: Path) -> Placed:
    """The capture in the frame of training.

    Raises:
      UserError: all cameras are at one place.
    """
    # Files round their numbers: what is nearly a rotation is made one.
    frames = capture.frames
    poses = np.stack([frame.pose for frame in frames])
    poses[:, :, :3] = nearest_rotation(poses[:, :, :3])
    if at_one_place(poses):
        raise UserError(
            f"{folder}: all {len(frames)} cameras are at one place, so nothing tells how far anything is: "
            "a scene takes pictures from different places"
        )
    if not capture.unbounded:
        near, far, notes = _synthetic_bounds(poses)
        return Placed(poses, near, far, capture.to_capture, notes)

    # Up, by how the cameras were held; then what the cameras are around, and how large that is.
    vertical = np.linalg.inv(capture.to_capture)[:3, 2]
    up = up_direction(_held(frames, poses), vertical / np.linalg.norm(vertical))
    parallel = axes_are_parallel(poses)
    points, unread = sparse.read(capture, required=parallel and capture.near is None)
    depth = _depth(capture, poses, points) if parallel else None
    new = normalise(poses, up, depth)
    size = np.cbrt(np.linalg.det(new.to_old[:3, :3]))

    # The format's distances are in units of its frame, of which the new frame's unit is `size`.
    near, far = (NEAR, FAR) if capture.near is None else (capture.near / size, capture.far / size)
    notes = _odd(frames, new.astray, "look elsewhere than the others, which decide what the scene is about")
    notes += _odd(frames, new.far_off, "are much farther away than the others, which decide how large the scene is")
    if parallel and depth is None:
        notes += ("the cameras look in one direction: how far the subject is was guessed from how far they are apart",)
    return Placed(
        poses=new.poses,
        near=near,
        far=far,
        to_capture=capture.to_capture @ new.to_old,
        notes=(*notes, *unread),
        points=((points - new.to_old[:3, 3]) @ new.to_old[:3, :3] / size**2).astype(np.float32),
        guessed=capture.near is None,
    )


def oriented(frames: Sequence[Frame]) -> tuple[list[Frame], tuple[str, ...]]:
    """The frames, each with whether its camera is for the upright picture, and a line if EXIF turns any.

    A camera's width and height say so, except where the picture is square or upside down: then what the others say,
    and if none says anything, the stored pixels, which is what COLMAP calibrates.
    """
    frames = [dataclasses.replace(frame, orientation=orientation(frame.path)) for frame in frames]
    turned = [i for i, frame in enumerate(frames) if frame.orientation != 1]
    if not turned:
        return frames, ()
    says = {i: _shape_says(frames[i]) for i in turned}
    votes = [upright for upright in says.values() if upright is not None]
    majority = 2 * sum(votes) > len(votes) if votes else _level_as_they_are(frames)
    upright = {i for i in turned if (majority if says[i] is None else says[i])}
    frames = [dataclasses.replace(frame, upright=i in upright) for i, frame in enumerate(frames)]
    note = (
        f"{len(turned)} pictures have an EXIF orientation: {len(upright)} are turned upright, which is what their "
        f"cameras are for, and {len(turned) - len(upright)} stay as they are stored: "
        f"{listed([frames[i].name for i in turned])}"
    )
    return frames, (note,)


def same_shape(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether sizes are of one shape, within 2 % or the pixel that undistorting and halving leave over."""
    (w, h), (width, height) = a, b
    off = abs(w * height - h * width)
    return off <= 0.02 * w * height or off <= w + h


def _shape_says(frame: Frame) -> bool | None:
    """Whether a frame's camera is for the upright picture; None where both readings have the camera's shape."""
    if frame.orientation not in TURNED:
        return None
    width, height = picture_size(frame.path)
    stored, upright = same_shape(frame.lens.size, (width, height)), same_shape(frame.lens.size, (height, width))
    return None if stored == upright else upright


def _level_as_they_are(frames: Sequence[Frame]) -> bool:
    """Whether the cameras' own right axes are level, so that they are the cameras of upright pictures.

    A camera that lay on its side and was calibrated with its stored pixels has other right axes.
    """
    poses = np.stack([frame.pose for frame in frames])
    return not axes_are_parallel(poses) and _level(poses) < 0.5 * _level(_held(frames, poses))


def _level(poses: np.ndarray) -> float:
    """How far right axes are from lying in a plane: their rms sine."""
    rights = poses[:, :, 0]
    return float(np.linalg.svd(rights, compute_uv=False)[-1] / np.sqrt(len(rights)))


def _held(frames: Sequence[Frame], poses: np.ndarray) -> np.ndarray:
    """The poses with the axes of upright pictures, where the cameras are for the stored pixels."""
    turns = [np.eye(3) if f.upright else HELD.get(f.orientation, np.eye(3)) for f in frames]
    return np.concatenate([poses[:, :, :3] @ np.stack(turns), poses[:, :, 3:]], 2)


def _synthetic_bounds(poses: np.ndarray) -> tuple[float, float, tuple[str, ...]]:
    """(near, far, lines): NeRF's synthetic scenes', in proportion to the cameras' distances from what they look at."""
    centre, astray = centre_of(poses)
    ahead = ((centre - poses[:, :, 3]) * poses[:, :, 2]).sum(1) > 0
    if axes_are_parallel(poses) or not (ahead | astray).all():
        note = f"the cameras look at no common point: near {SYNTHETIC_NEAR:g} and far {SYNTHETIC_FAR:g} were taken"
        return SYNTHETIC_NEAR, SYNTHETIC_FAR, (note,)
    distances = np.linalg.norm(centre - poses[:, :, 3], axis=1)[~astray]
    distances = distances[~far_from(distances)] / SYNTHETIC_DISTANCE
    if (np.abs(distances - 1) <= SNAP).all():
        return SYNTHETIC_NEAR, SYNTHETIC_FAR, ()
    near, far = float(SYNTHETIC_NEAR * distances.min()), float(SYNTHETIC_FAR * distances.max())
    return (
        near,
        far,
        (f"near {near:.3g} and far {far:.3g} were taken from the cameras' distances to what they look at",),
    )


def _depth(capture: Capture, poses: np.ndarray, points: np.ndarray) -> float | None:
    """How far in front of parallel cameras their subject is, by the format's bounds or COLMAP's points [k, 3]."""
    if capture.near is not None:
        return 2 / (1 / capture.near + 1 / capture.far)
    axis, middle = np.median(poses[:, :, 2], axis=0), np.median(poses[:, :, 3], axis=0)
    ahead = (points - middle) @ (axis / np.linalg.norm(axis))
    ahead = ahead[ahead > 0]
    return float(np.median(ahead)) if len(ahead) else None


def _odd(frames: Sequence[Frame], odd: np.ndarray, what: str) -> tuple[str, ...]:
    if not odd.any():
        return ()
    return (f"{odd.sum()} of {len(frames)} cameras {what}: {listed([frames[i].name for i in np.flatnonzero(odd)])}",)
