"""The frame in which a real capture is trained: centred, of unit size, z up.

Structure from motion gets a few poses wrong, and people turn round: what is decided for a whole capture is decided by
nearly all of its cameras, and the few odd ones are outvoted.
"""

from typing import NamedTuple

import numpy as np

SPREAD = 0.17  # rms sine of the angle between right axes from which on they define a level plane: 10 degrees
LEAST = 5  # cameras: among fewer none is odd
FAR_OFF = 3.0  # a camera is odd that is so many times farther from the centre than nine in ten others
ASTRAY = np.radians(45)  # a camera is odd that looks past the point which the others look at by more than this
PARALLEL = np.radians(1)  # axes that differ by less meet nowhere in particular
AHEAD = 4.0  # how far parallel cameras' subject is taken to be if nothing says so, in extents of their positions
NADIR = np.cos(np.radians(30))  # cameras look down that look along -z of the capture's frame more closely than this
ROLLED = 0.7  # length of the mean down axis below which the cameras' down axes point all around


class Normalised(NamedTuple):
    """What `normalise` returns.

    Attributes:
      poses: [n, 3, 4] in the new frame.
      to_old: [4, 4] similarity from the new frame to the old.
      astray: bool [n], cameras that look elsewhere than the others and were outvoted.
      far_off: bool [n], cameras much farther away than the others, which lie outside [-1, 1]^3.
    """

    poses: np.ndarray
    to_old: np.ndarray
    astray: np.ndarray
    far_off: np.ndarray


def normalise(poses: np.ndarray, up: np.ndarray, depth: float | None = None) -> Normalised:
    """Moves cameras so that up is +z, their centre (see `centre_of`) is the origin and their positions fill [-1, 1]^3.

    Args:
      poses: [n, 3, 4] camera to world, OpenCV's axes.
      up: [3] unit vector, see `up_direction`.
      depth: how far in front of parallel cameras the subject is, where that is known.
    """
    # The similarity x_new = rotation (x_old - centre) / size: fields need to know where the content is, how large
    # distances are, and paths which way is up.
    centre, astray = centre_of(poses, depth)
    rotation = rotation_between(up, np.array([0.0, 0.0, 1.0]))
    moved = (poses[:, :, 3] - centre) @ rotation.T
    size = reach(moved) or 1.0

    # Its inverse, for exports: x_old = size rotation^T x_new + centre.
    to_old = np.eye(4)
    to_old[:3, :3], to_old[:3, 3] = size * rotation.T, centre
    new = np.concatenate([rotation @ poses[:, :, :3], moved[:, :, None] / size], 2)
    return Normalised(new, to_old, astray, far_from(np.abs(moved).max(1)))


def centre_of(poses: np.ndarray, depth: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """([3] what a capture is about, bool [n] which cameras look elsewhere and were outvoted).

    The point nearest to all optical axes if it lies in front of nearly all cameras (an object in the middle), else the
    mean of the cameras' positions (a room seen from inside). Parallel axes have no such point: then it is `depth` in
    front of the mean position.
    """
    positions, none = poses[:, :, 3], np.zeros(len(poses), bool)
    if axes_are_parallel(poses):
        return _ahead(poses, depth), none
    # Without those that look past the point of all the others that point moves, and others may look past it. Those far
    # away miss it by much where they aim a little wrong.
    odd = left_out = none
    for _ in range(5):
        focus = focus_point(poses[~left_out])
        angle = _angles_to(poses, focus)
        odd = angle > np.clip(4 * np.median(angle), ASTRAY, np.pi / 2 * (1 - 1e-12))
        last, left_out = left_out, odd | far_from(np.linalg.norm(positions - focus, axis=1))
        if not few(odd) or (left_out == last).all():
            break
    if few(odd):
        return focus, odd
    focus = focus_point(poses)
    if (_angles_to(poses, focus) < np.pi / 2).all():
        return focus, none
    return positions[_together(positions)].mean(0), none


def axes_are_parallel(poses: np.ndarray) -> bool:
    """Whether nearly all cameras look in one direction, so that their axes meet nowhere in particular."""
    cosine = poses[:, :, 2] @ _common_axis(poses)
    return bool(np.quantile(np.arccos(np.clip(cosine, -1, 1)), 0.9, method="lower") < PARALLEL)


def few(odd: np.ndarray) -> bool:
    """Whether the cameras of a bool [n] are so few that the others outvote them: one, or one in ten."""
    count, n = int(odd.sum()), len(odd)
    return count == 0 or (n >= LEAST and count <= max(1, n // 10))


def far_from(distances: np.ndarray) -> np.ndarray:
    """bool [n]: the few of n distances from a centre that are much greater than all others; none if they are many."""
    usual = np.quantile(distances, 0.9, method="lower")
    far = distances > FAR_OFF * usual
    return far if usual > 0 and few(far) else np.zeros_like(far)


def reach(positions: np.ndarray) -> np.floating:
    """The greatest coordinate of positions [n, 3] around the origin, without the few that are far from all others."""
    return np.abs(positions[~far_from(np.abs(positions).max(1))]).max()


def at_one_place(poses: np.ndarray) -> bool:
    """Whether all cameras are where the first is, but for what double precision leaves of their coordinates."""
    positions = poses[:, :, 3]
    return bool(np.ptp(positions, axis=0).max() <= 1e-9 * np.abs(positions).max())


def _ahead(poses: np.ndarray, depth: float | None) -> np.ndarray:
    """[3] the subject of parallel cameras, a choice that hangs on where they are to each other and on nothing else."""
    positions = poses[:, :, 3][_together(poses[:, :, 3])]
    middle = positions.mean(0)
    extent = np.linalg.norm(positions - middle, axis=1).max()
    return middle + _common_axis(poses) * (AHEAD * extent if depth is None else depth)


def _together(positions: np.ndarray) -> np.ndarray:
    """bool [n]: all cameras but the few that are far from the others."""
    return ~far_from(np.linalg.norm(positions - np.median(positions, axis=0), axis=1))


def _common_axis(poses: np.ndarray) -> np.ndarray:
    """[3] unit vector along which most cameras look."""
    axis = np.median(poses[:, :, 2], axis=0)
    length = np.linalg.norm(axis)
    return axis / length if length > 1e-6 else poses[0, :, 2]


def _angles_to(poses: np.ndarray, point: np.ndarray) -> np.ndarray:
    """[n] radians by which cameras look past a point; more than half a pi where it is behind them."""
    towards = point - poses[:, :, 3]
    along = (towards * poses[:, :, 2]).sum(1)
    return np.arctan2(np.linalg.norm(np.cross(towards, poses[:, :, 2]), axis=1), along)


def focus_point(poses: np.ndarray) -> np.ndarray:
    """[3] the point with the least summed squared distance to the optical axes of poses [n, 3, 4]."""
    axis = poses[:, :, 2]
    off_axis = np.eye(3) - axis[:, :, None] * axis[:, None, :]  # projections along each axis
    # From the middle of the cameras: along directions that the axes leave open, the result must not hang on the origin.
    middle = poses[:, :, 3:].mean(0)
    total, target = off_axis.sum(0), (off_axis @ (poses[:, :, 3:] - middle)).sum(0)
    return middle[:, 0] + np.linalg.lstsq(total, target[:, 0], rcond=1e-6)[0]


def up_direction(poses: np.ndarray, vertical: np.ndarray | None = None) -> np.ndarray:
    """[3] unit vector: the direction perpendicular to the cameras' right axes, which are level in most captures.

    The mean of the cameras' up axes would lean where all of them look down from one side. It only decides between the
    two perpendicular directions, and among all of them where the right axes are parallel. Where the cameras were held
    on their side, their down axes are level instead.

    Args:
      vertical: [3] z of the frame that the capture came in. It is up where all cameras look against it with one
        heading, as in a flight: nothing else tells a photographed floor from a photographed wall.
    """
    rights, downs = poses[:, :, 0], poses[:, :, 1]
    if _span_a_plane(downs) and not _span_a_plane(rights) and np.linalg.norm(downs.mean(0)) < ROLLED:
        # All on their side: up is along the right axes or against them. More photographers look down than up.
        up = _normal(downs)
        lean = -up @ poses[:, :, 2].mean(0)
        against = lean if abs(lean) > 0.05 or vertical is None else up @ vertical
        return up if against >= 0 else -up
    up = -downs.mean(0)
    _, spread, axes = np.linalg.svd(rights)

    # The right axes span a plane: up is its normal, without the few cameras that are rolled out of it.
    if len(spread) > 1 and spread[1] > SPREAD * np.sqrt(len(rights)):
        rolled = np.abs(rights @ axes[2]) > np.sin(ASTRAY)
        normal = _normal(rights[~rolled]) if rolled.any() and few(rolled) else axes[2]
        return normal * (1 if normal @ up >= 0 else -1)

    # They are one line, axes[0]: up is what the mean up axis has perpendicular to it.
    if vertical is not None and -vertical @ _common_axis(poses) > NADIR:
        return vertical
    level = up - axes[0] * (axes[0] @ up)
    length = np.linalg.norm(level)
    return level / length if length > 1e-3 else np.array([0.0, 0.0, 1.0])


def _span_a_plane(directions: np.ndarray) -> bool:
    """Whether unit vectors [n, 3] lie in a plane and not on a line."""
    spread = np.linalg.svd(directions, compute_uv=False) / np.sqrt(len(directions))
    return len(spread) > 2 and spread[1] > SPREAD and spread[2] < 0.5 * spread[1]


def _normal(directions: np.ndarray) -> np.ndarray:
    """[3] unit vector most nearly perpendicular to all of directions [n, 3]."""
    return np.linalg.svd(directions)[2][2]


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[3, 3] the smallest rotation that takes unit vector a to unit vector b (Rodrigues)."""
    cosine = a @ b
    if cosine < -1 + 1e-9:  # opposite: half a turn about any axis across
        across = np.cross(a, np.eye(3)[np.abs(a).argmin()])
        across /= np.linalg.norm(across)
        return 2 * np.outer(across, across) - np.eye(3)
    v = np.cross(a, b)
    skew = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)


def nearest_rotation(matrices: np.ndarray) -> np.ndarray:
    """[..., 3, 3] rotations nearest to matrices that are nearly so, which takes away a file's rounding."""
    u, _, vt = np.linalg.svd(matrices)
    return u @ vt
