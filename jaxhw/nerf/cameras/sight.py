"""Which points of space cameras have in their pictures. In shapes, n counts cameras and k counts points."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.nerf.cameras.cameras import Array, Cameras, project, unproject

EDGE = 16  # pixels along each side of a picture that stand for its edge
SLACK = 1e-3  # of the cosine of the widest angle, for rounding


def edge() -> np.ndarray:
    """[e, 2] points along a picture's four sides, as shares of its width and height."""
    along = np.linspace(0, 1, EDGE + 1, dtype=np.float32)
    ends = np.repeat(np.float32([0, 1]), len(along))
    sides = np.stack([np.tile(along, 2), ends], -1)
    return np.concatenate([sides, sides[:, ::-1]])


def widest(cameras: Cameras) -> jax.Array:
    """[n] cosines of the widest angle to its optical axis at which each camera's picture shows anything.

    A distorted picture may fold: a point far outside of the view can land on a pixel as well. No pixel sees farther
    from the optical axis than one at the picture's edge.
    """
    return unproject(cameras, edge()[:, None] * np.float32(cameras.size))[..., 2].min(0)


def sees(camera: Cameras, cosine: Array, points: Array) -> tuple[jax.Array, jax.Array]:
    """(whether one camera has points [k, 3] of the world in its picture, [k]; their distances from it, [k]).

    Args:
      cosine: the camera's of `widest`.
    """
    local = (points - camera.pose[:, 3]) @ camera.pose[:, :3]
    distance = jnp.sqrt((local**2).sum(-1))
    pixel = project(camera, local)
    inside = ((pixel >= 0) & (pixel <= camera.size)).all(-1)
    return inside & (local[:, 2] >= (cosine - SLACK) * distance), distance
