"""What the cameras see of space: the box around it, how many see a point, and which voxels can be learnt at all."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras import sight
from jaxhw.nerf.cameras.cameras import Cameras, rays_through


def frusta_box(cameras: Cameras, near: float, far: float) -> np.ndarray:
    """The box [2, 3] around all cameras' frusta between `near` and `far`."""
    pixels = sight.edge()[:, None] * np.float32(cameras.size)  # [e, n, 2]
    origins, directions = (np.asarray(a) for a in rays_through(cameras, pixels))
    ends = np.concatenate([origins + directions * d for d in (near, far)]).reshape(-1, 3)
    return np.stack([ends.min(0), ends.max(0)]).astype(np.float32)


def count_cameras(cameras: Cameras, points: np.ndarray, near: float, far: float) -> np.ndarray:
    """How many cameras have a point in their picture, [k] int32, for points [k, 3]."""
    widest = sight.widest(cameras)

    def add(count: jax.Array, one: tuple[Cameras, jax.Array]) -> tuple[jax.Array, None]:
        inside, distance = sight.sees(*one, points)
        return count + (inside & (distance >= near) & (distance <= far)), None

    count = lambda: jax.lax.scan(add, jnp.zeros(len(points), jnp.int32), (cameras, widest))[0]
    return np.asarray(jax.jit(count)())


def learnable(
    cameras: Cameras, points: np.ndarray, shape: tuple[int, int, int], near: float, far: float, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """(which vertices, at points [x * y * z, 3], can be learnt; how many cameras see them), [x, y, z] each.

    Args:
      least: cameras that must see a vertex, or all of them where there are fewer.

    Raises:
      UserError: none can.
    """
    seen, least = count_cameras(cameras, points, near, far), min(least, len(cameras))
    mask = (seen >= least) & ~_close(cameras, points, near)
    if not mask.any():
        raise UserError(
            f"the scene's box has nothing in it: no point at least {near:g} away from every training camera is seen by "
            f"{least} of them; check the poses, config.model.near and config.model.least_cameras"
        )
    return mask.reshape(shape), seen.reshape(shape)


def _close(cameras: Cameras, points: np.ndarray, near: float) -> np.ndarray:
    """Whether points [k, 3] are within `near` of a camera, [k]."""
    add = lambda close, centre: (close | (((points - centre) ** 2).sum(-1) < near**2), None)
    return np.asarray(jax.jit(lambda: jax.lax.scan(add, jnp.zeros(len(points), bool), cameras.pose[:, :, 3])[0])())
