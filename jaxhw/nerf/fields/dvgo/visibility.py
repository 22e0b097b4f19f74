"""What the cameras see of space: the box around it, how many see a point, and which voxels can be learnt at all."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras, rays_through

LEAST_CAMERAS = 3  # a voxel that fewer see is never trained


def frusta_box(cameras: Cameras, near: float, far: float) -> np.ndarray:
    """The box [2, 3] around all cameras' frusta between `near` and `far`."""
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)[:, None]  # broadcasts against the cameras
    origins, directions = (np.asarray(a) for a in rays_through(cameras, corners * np.float32(cameras.size)))
    ends = np.concatenate([origins + directions * d for d in (near, far)]).reshape(-1, 3)
    return np.stack([ends.min(0), ends.max(0)]).astype(np.float32)


def count_cameras(cameras: Cameras, points: np.ndarray, near: float, far: float) -> np.ndarray:
    """How many cameras have a point in their picture, [k] int32, for points [k, 3]; lens distortion is left out."""

    def add(count: jax.Array, camera: tuple) -> tuple[jax.Array, None]:
        pose, focal, centre, size = camera
        local = (points - pose[:, 3]) @ pose[:, :3]
        pixel = local[:, :2] / jnp.maximum(local[:, 2:], 1e-6) * focal + centre
        inside = ((pixel >= 0) & (pixel <= size)).all(-1)
        distance = jnp.sqrt((local**2).sum(-1))
        return count + (inside & (local[:, 2] > 0) & (distance >= near) & (distance <= far)), None

    arrays = cameras.pose, cameras.focal, cameras.centre, cameras.size
    return np.asarray(jax.jit(lambda: jax.lax.scan(add, jnp.zeros(len(points), jnp.int32), arrays)[0])())


def learnable(
    cameras: Cameras, points: np.ndarray, shape: tuple[int, int, int], near: float, far: float
) -> tuple[np.ndarray, np.ndarray]:
    """(which vertices, at points [x * y * z, 3], can be learnt; how many cameras see them), [x, y, z] each.

    Raises:
      UserError: none can.
    """
    seen, least = count_cameras(cameras, points, near, far), min(LEAST_CAMERAS, len(cameras))
    mask = (seen >= least) & ~_close(cameras, points, near)
    if not mask.any():
        raise UserError(
            f"the scene's box has nothing in it: no point at least {near:g} away from every training camera is seen by "
            f"{least} of them; check the poses and config.model.near"
        )
    return mask.reshape(shape), seen.reshape(shape)


def _close(cameras: Cameras, points: np.ndarray, near: float) -> np.ndarray:
    """Whether points [k, 3] are within `near` of a camera, [k]."""
    add = lambda close, centre: (close | (((points - centre) ** 2).sum(-1) < near**2), None)
    return np.asarray(jax.jit(lambda: jax.lax.scan(add, jnp.zeros(len(points), bool), cameras.pose[:, :, 3])[0])())
