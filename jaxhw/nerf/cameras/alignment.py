"""Similarities of space: the one that takes some cameras onto others, and how far they are apart after it.

Pictures fix a scene and its cameras up to a similarity (the gauge): refined poses are compared with others, and cameras
that were not refined are brought to them, only through it. In shapes, n counts cameras; poses are [n, 3, 4], camera to
world. All of it is computed on the host, in double precision.
"""

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from jaxhw.nerf.cameras.cameras import Cameras

AXES = 1e-3  # how much the cameras' axes say beside their positions, which leave open a turn about their common line


def extent(positions: np.ndarray) -> float:
    """The greatest distance of positions [n, 3] from their mean: the measure of shifts of cameras."""
    positions = np.asarray(positions, np.float64)
    return float(np.linalg.norm(positions - positions.mean(0), axis=1).max())


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[4, 4] of the similarity x -> s R x + t that takes source poses onto target ones (Umeyama, PAMI 1991).

    Least squares in the positions; the axes count a little too, so that cameras along a line, or two of them, have an
    answer. The determinant test (Umeyama's eq. 43) keeps R from being a mirror, however the positions lie.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    means = source[:, :, 3].mean(0), target[:, :, 3].mean(0)
    a, b = source[:, :, 3] - means[0], target[:, :, 3] - means[1]
    size = np.sqrt((a**2).sum() * (b**2).sum())
    weight = AXES * size / len(a) if size else 1.0
    covariance = b.T @ a + weight * np.einsum("nij,nkj->ik", target[:, :, :3], source[:, :, :3])
    u, _, vt = np.linalg.svd(covariance)
    mirrored = np.linalg.det(u) * np.linalg.det(vt) < 0
    rotation = u @ np.diag([1, 1, -1 if mirrored else 1]) @ vt
    spread = (a**2).sum()
    scale = float((b * (a @ rotation.T)).sum() / spread) if spread else 1.0
    scale = scale if scale > 0 else 1.0  # of cameras that have nothing to do with each other
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * rotation, means[1] - scale * rotation @ means[0]
    return matrix


def scale_of(matrix: np.ndarray) -> float:
    """s of a similarity [4, 4]."""
    return float(np.cbrt(np.linalg.det(matrix[:3, :3])))


def moved_poses(poses: Any, matrix: np.ndarray) -> np.ndarray:
    """Poses [n, 3, 4] after a similarity [4, 4] of the world, float64; a camera's axes keep their length."""
    poses = np.asarray(poses, np.float64)
    axes = matrix[:3, :3] @ poses[:, :, :3] / scale_of(matrix)
    positions = poses[:, :, 3] @ matrix[:3, :3].T + matrix[:3, 3]
    return np.concatenate([axes, positions[:, :, None]], 2)


def moved(cameras: Cameras, matrix: np.ndarray) -> Cameras:
    """Cameras after a similarity [4, 4] of the world."""
    return cameras.replace(pose=moved_poses(cameras.pose, matrix).astype(np.float32))


def errors(poses: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """How far poses are from the true ones after the similarity between them.

    Returns:
      (mean angle in degrees, mean distance of the positions as a share of the true positions' extent).
    """
    matrix = similarity(truth, poses)
    wanted, poses = moved_poses(truth, matrix), np.asarray(poses, np.float64)
    # The angle by the chord between the axes: an arc cosine would not know 0 from 0.02 degrees in single precision.
    chord = np.sqrt(((wanted[:, :, :3] - poses[:, :, :3]) ** 2).sum((1, 2)) / 8)
    angles = 2 * np.degrees(np.arcsin(np.clip(chord, 0, 1)))
    distance = np.linalg.norm(wanted[:, :, 3] - poses[:, :, 3], axis=1).mean()
    return float(angles.mean()), float(distance / max(scale_of(matrix) * extent(truth[:, :, 3]), 1e-12))


def perturbed(poses: np.ndarray, degrees: float, share: float, seed: int) -> np.ndarray:
    """Poses moved by noise, float32: each turned about itself and shifted, independently in all directions.

    Args:
      degrees, share: root mean square of the angles, and of the shifts over the extent of the positions.
    """
    poses, rng = np.asarray(poses, np.float64), np.random.default_rng((seed, 0xCA3))
    turns, shifts = rng.normal(size=(2, len(poses), 3)) / np.sqrt(3)
    axes = Rotation.from_rotvec(np.radians(degrees) * turns).as_matrix() @ poses[:, :, :3]
    positions = poses[:, :, 3] + share * extent(poses[:, :, 3]) * shifts
    return np.concatenate([axes, positions[:, :, None]], 2).astype(np.float32)
