"""Cameras on a sphere that look at its centre: those of scenes that are made, not captured."""

import numpy as np

from jaxhw.nerf.cameras.cameras import Cameras


def hemisphere(count: int) -> np.ndarray:
    """[n, 2] azimuth and elevation, in radians, of points spread over the upper hemisphere: a Fibonacci spiral.

    Each is a golden angle further around, its height rising evenly.
    """
    i = np.arange(count)
    return np.stack([i * np.pi * (3 - np.sqrt(5)), np.arcsin(0.05 + 0.9 * (i + 0.5) / len(i))], 1)


def circling(angles: np.ndarray, distance: float, size: int, field_of_view: float) -> Cameras:
    """Cameras that look at the origin from a distance, their right axes level.

    Args:
      angles: [n, 2], azimuth and elevation in radians.
      size: pixels along a side of their square pictures.
      field_of_view: radians.
    """
    azimuth, elevation = angles.T
    out = np.stack([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], 1)
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), np.zeros_like(azimuth)], 1)
    n = len(angles)
    return Cameras(
        pose=np.stack([right, np.cross(-out, right), -out, distance * out], 2).astype(np.float32),
        focal=np.full((n, 2), 0.5 * size / np.tan(0.5 * field_of_view), np.float32),
        centre=np.full((n, 2), size / 2, np.float32),
        distortion=np.zeros((n, 4), np.float32),
        size=np.full((n, 2), size, np.int32),
    )
