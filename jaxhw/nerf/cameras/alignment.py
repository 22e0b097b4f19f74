"""Similarities of space: the one that takes some cameras onto others, and how far they are apart after it.

Pictures fix a scene and its cameras up to a similarity (the gauge): refined poses are compared with others, and cameras
that were not refined are brought to them, only through it. In shapes, n counts cameras; poses are [n, 3, 4], camera to
world. All of it is computed on the host, in double precision.
"""

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.cameras.normalise import centre_of

# What a camera sees, in units of the distance of the subject: points of its axes, at the corners of its picture.
CORNERS = np.array([(x, y, 1.0) for x in (-0.4, 0.4) for y in (-0.4, 0.4)])


def extent(positions: np.ndarray) -> float:
    """The greatest distance of positions [n, 3] from their mean: the measure of shifts of cameras."""
    positions = np.asarray(positions, np.float64)
    return float(np.linalg.norm(positions - positions.mean(0), axis=1).max())


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[4, 4] of the similarity x -> s R x + t that takes source poses onto target ones.

    Least squares in where the cameras are and in four points that each sees at the distance of their subject, so that
    an angle counts as its pixels do: a camera that moved aside and turned back to the subject has hardly moved. s is
    the ratio of the positions' spreads; R and t are Kabsch's (Acta Crystallographica 1976). The determinant test
    (Umeyama, PAMI 1991, eq. 43) keeps R from being a mirror, however the points lie.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    spreads = [float(np.linalg.norm(poses[:, :, 3] - poses[:, :, 3].mean(0))) for poses in (source, target)]
    scale = spreads[1] / spreads[0] if all(spreads) else 1.0
    distance = np.median(np.linalg.norm(source[:, :, 3] - centre_of(source)[0], axis=1)) or 1.0
    a, b = _seen(source, distance), _seen(target, scale * distance)
    u, _, vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    mirrored = np.linalg.det(u) * np.linalg.det(vt) < 0
    rotation = u @ np.diag([1, 1, -1 if mirrored else 1]) @ vt
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * rotation, b.mean(0) - scale * rotation @ a.mean(0)
    return matrix


def _seen(poses: np.ndarray, distance: float) -> np.ndarray:
    """[5n, 3] where cameras are, and the four corners of what each sees at a distance."""
    corners = poses[:, None, :, 3] + distance * np.einsum("nij,kj->nki", poses[:, :, :3], CORNERS)
    return np.concatenate([poses[:, :, 3], corners.reshape(-1, 3)])


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
