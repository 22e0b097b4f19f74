"""The frame in which a real capture is trained: centred, of unit size, z up."""

import numpy as np

SPREAD = 0.17  # rms sine of the angle between right axes from which on they define a level plane: 10 degrees


def normalise(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves cameras so that up is +z, their centre (see `centre_of`) is the origin and their positions fill [-1, 1]^3.

    Args:
      poses: [n, 3, 4] camera to world, OpenCV's axes.

    Returns:
      (poses [n, 3, 4] in the new frame, [4, 4] similarity from the new frame to the old).
    """
    # The similarity x_new = rotation (x_old - centre) / size: fields need to know where the content is, how large
    # distances are, and paths which way is up.
    centre = centre_of(poses)
    rotation = rotation_between(up_direction(poses), np.array([0.0, 0.0, 1.0]))
    moved = (poses[:, :, 3] - centre) @ rotation.T
    size = np.abs(moved).max() or 1.0

    # Its inverse, for exports: x_old = size rotation^T x_new + centre.
    to_old = np.eye(4)
    to_old[:3, :3], to_old[:3, 3] = size * rotation.T, centre
    return np.concatenate([rotation @ poses[:, :, :3], moved[:, :, None] / size], 2), to_old


def centre_of(poses: np.ndarray) -> np.ndarray:
    """[3] what a capture is about: the point nearest to all optical axes if it lies in front of every camera (an object
    in the middle), else the mean of the cameras' positions (a room seen from inside)."""
    focus, positions = focus_point(poses), poses[:, :, 3]
    in_front = ((focus - positions) * poses[:, :, 2]).sum(1) > 0
    return focus if in_front.all() else positions.mean(0)


def focus_point(poses: np.ndarray) -> np.ndarray:
    """[3] the point with the least summed squared distance to the optical axes of poses [n, 3, 4]."""
    axis = poses[:, :, 2]
    off_axis = np.eye(3) - axis[:, :, None] * axis[:, None, :]  # projections along each axis
    total, target = off_axis.sum(0), (off_axis @ poses[:, :, 3:]).sum(0)
    return np.linalg.lstsq(total, target[:, 0], rcond=1e-6)[0]


def up_direction(poses: np.ndarray) -> np.ndarray:
    """[3] unit vector: the direction perpendicular to the cameras' right axes, which are level in most captures.

    The mean of the cameras' up axes would lean where all of them look down from one side. It only decides between the
    two perpendicular directions, and among all of them where the right axes are parallel.
    """
    rights, up = poses[:, :, 0], -poses[:, :, 1].mean(0)
    _, spread, axes = np.linalg.svd(rights)

    # The right axes span a plane: up is its normal.
    if len(spread) > 1 and spread[1] > SPREAD * np.sqrt(len(rights)):
        return axes[2] * (1 if axes[2] @ up >= 0 else -1)

    # They are one line, axes[0]: up is what the mean up axis has perpendicular to it.
    level = up - axes[0] * (axes[0] @ up)
    length = np.linalg.norm(level)
    return level / length if length > 1e-3 else np.array([0.0, 0.0, 1.0])


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
