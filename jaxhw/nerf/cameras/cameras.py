"""Cameras and the rays through their pixels.

Camera axes are OpenCV's (x right, y down, z forward). Pixels are continuous coordinates (x, y) from the picture's upper
left corner, so that the first pixel's centre is (0.5, 0.5): COLMAP's convention. The distortion models and the order of
their parameters are COLMAP's too (src/colmap/sensor/models.h).
"""

from typing import Self

import flax
import jax
import jax.numpy as jnp
import numpy as np

PERSPECTIVE = ("PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")  # each a special case of the next
MODELS = (*PERSPECTIVE, "OPENCV_FISHEYE")
NEWTON_STEPS = 6  # 4 reach float32's precision at k1 = -0.35

Array = jax.Array | np.ndarray


@flax.struct.dataclass
class Cameras:
    """n cameras of one picture size and model; `cameras[i]` is one of them, `cameras[indices]` several.

    Attributes:
      pose: [n, 3, 4] float32, camera to world: a rotation and the camera's position.
      focal: [n, 2] float32, fx and fy in pixels.
      centre: [n, 2] float32, cx and cy in pixels.
      distortion: [n, 4] float32: k1 k2 p1 p2 of OPENCV, of which the simpler models use the first ones and leave the
        rest 0; k1 k2 k3 k4 of OPENCV_FISHEYE.
      width, height: of the pictures, in pixels.
      model: one of `MODELS`.
    """

    pose: Array
    focal: Array
    centre: Array
    distortion: Array
    width: int = flax.struct.field(pytree_node=False)
    height: int = flax.struct.field(pytree_node=False)
    model: str = flax.struct.field(pytree_node=False, default="PINHOLE")

    def __len__(self) -> int:
        return self.pose.shape[0]

    def __getitem__(self, index) -> Self:
        return jax.tree.map(lambda a: a[index], self)

    def resized(self, width: int, height: int) -> Self:
        """The same views on another number of pixels."""
        scale = np.array([width / self.width, height / self.height], np.float32)
        return self.replace(focal=self.focal * scale, centre=self.centre * scale, width=width, height=height)


def rays(cameras: Cameras, index: Array, pixels: Array) -> tuple[jax.Array, jax.Array]:
    """The rays through pixels of several cameras.

    Args:
      cameras: n cameras.
      index: [r] int, each ray's camera.
      pixels: [r, 2] float, (x, y) with pixel centres at + 0.5.

    Returns:
      (origins [r, 3], directions [r, 3] of unit length), in the world's frame.
    """
    return shoot(cameras[index], pixels)


def image_rays(camera: Cameras) -> tuple[jax.Array, jax.Array]:
    """The rays through all pixel centres of one camera (`cameras[i]`), row by row: two [height * width, 3]."""
    return shoot(camera, pixel_centres(camera.width, camera.height))


def pixel_centres(width: int, height: int) -> np.ndarray:
    """[height * width, 2] float32 (x, y), row by row."""
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    return np.stack([x.ravel(), y.ravel()], -1)


def shoot(camera: Cameras, pixels: Array) -> tuple[jax.Array, jax.Array]:
    """Origins and unit directions, both [..., 3], for cameras [...] and pixels [..., 2] that broadcast."""
    local = unproject(camera, pixels)
    # Summed by hand: a matrix product would round to bfloat16 on a TPU.
    directions = (camera.pose[..., :3] * local[..., None, :]).sum(-1)
    return jnp.broadcast_to(camera.pose[..., 3], directions.shape), directions


def unproject(camera: Cameras, pixels: Array) -> jax.Array:
    """Unit directions [..., 3] in the camera's own frame."""
    xy = (pixels - camera.centre) / camera.focal
    if camera.model == "OPENCV_FISHEYE":
        return _fisheye_direction(xy, camera.distortion)
    if camera.model != "PINHOLE":
        xy = _undistort(xy, camera.distortion)
    xyz = jnp.concatenate([xy, jnp.ones_like(xy[..., :1])], -1)
    return xyz / jnp.linalg.norm(xyz, axis=-1, keepdims=True)


def _undistort(distorted: jax.Array, coefficients: Array) -> jax.Array:
    """Inverts OPENCV's distortion of points on the plane z = 1, [..., 2], by Newton's method."""
    k1, k2, p1, p2 = (coefficients[..., i] for i in range(4))
    xd, yd = distorted[..., 0], distorted[..., 1]

    def step(_, xy):
        x, y = xy
        r2 = x * x + y * y
        radial, slope = 1 + r2 * (k1 + r2 * k2), 2 * (k1 + 2 * k2 * r2)
        ex = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) - xd
        ey = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y) - yd
        xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
        yy = radial + slope * y * y + 2 * p2 * x + 6 * p1 * y
        xy = slope * x * y + 2 * p1 * x + 2 * p2 * y  # the Jacobian is symmetric
        scale = _reciprocal(xx * yy - xy * xy)
        return x - (yy * ex - xy * ey) * scale, y - (xx * ey - xy * ex) * scale

    # A loop: unrolled, XLA fuses the steps for the CPU and computes each again for every use, which takes minutes.
    return jnp.stack(jax.lax.fori_loop(0, NEWTON_STEPS, step, (xd, yd)), -1)


def _fisheye_direction(distorted: jax.Array, coefficients: Array) -> jax.Array:
    """Unit directions of OPENCV_FISHEYE: |distorted| = t (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8), t the angle."""
    k1, k2, k3, k4 = (coefficients[..., i, None] for i in range(4))
    r2 = (distorted**2).sum(-1, keepdims=True)
    off_centre = r2 > 1e-16
    r = jnp.sqrt(jnp.where(off_centre, r2, 1.0))  # the root's gradient is infinite at 0

    def step(_, t):
        t2 = t * t
        error = t * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))) - r
        return t - error * _reciprocal(1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4))))

    t = jax.lax.fori_loop(0, NEWTON_STEPS, step, r)
    xy = distorted * jnp.where(off_centre, jnp.sin(t) / r, 1.0)
    return jnp.concatenate([xy, jnp.where(off_centre, jnp.cos(t), 1.0)], -1)


def _reciprocal(x: jax.Array) -> jax.Array:
    """1 / x, and 0 where the distortion folds and Newton's method has no step to offer."""
    ok = jnp.abs(x) > 1e-6
    return jnp.where(ok, 1 / jnp.where(ok, x, 1), 0)
