"""Cameras, and the rays through the pixels of their pictures.

Camera axes are OpenCV's (x right, y down, z forward). A pixel is a point (x, y) of the picture, counted from its upper
left corner, so that the first pixel's centre is (0.5, 0.5): COLMAP's convention. The distortion models and the order of
their parameters are COLMAP's too (src/colmap/sensor/models.h).

In shapes, n counts cameras and r counts rays.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import flax
import jax
import jax.numpy as jnp
import numpy as np

PERSPECTIVE = ("PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "BROWN")  # each a special case of the next
MODELS = (*PERSPECTIVE, "OPENCV_FISHEYE")
NEWTON_STEPS = 6  # 4 reach float32's precision at k1 = -0.35
NO_CAMERA = -1  # `Rays.camera` of rays through none of the training pictures

Array = jax.Array | np.ndarray
PyTree = Any


class Rays(flax.struct.PyTreeNode):
    """r rays in the world's frame.

    Attributes:
      origins: [r, 3], where they start: at a camera's centre of projection.
      directions: [r, 3], of unit length, so that distances along a ray are distances in the world.
      camera: [r] int32, the row of the training cameras that each belongs to, -1 for none. What is learnt for each
        picture (its pose, its appearance) is found by it.
    """

    origins: Array
    directions: Array
    camera: Array

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, rows: Any) -> Self:
        return jax.tree.map(lambda a: a[rows], self)


class Cameras(flax.struct.PyTreeNode):
    """n cameras of one model, each with a picture size of its own.

    `cameras[i]` is one of them, whose arrays have no leading axis; `cameras[indices]` is several.

    Attributes:
      pose: [n, 3, 4] float32, camera to world: a rotation and the camera's position.
      focal: [n, 2] float32, fx and fy in pixels.
      centre: [n, 2] float32, cx and cy in pixels.
      distortion: [n, 4] float32: k1 k2 p1 p2 of OPENCV, of which the simpler models use the first ones and leave the
        rest 0; k1 k2 k3 k4 of OPENCV_FISHEYE. [n, 5] of BROWN: OPENCV's and k3.
      size: [n, 2] int32, width and height of the pictures in pixels.
      model: one of `MODELS`.
    """

    pose: Array
    focal: Array
    centre: Array
    distortion: Array
    size: Array
    model: str = flax.struct.field(pytree_node=False, default="PINHOLE")

    def __len__(self) -> int:
        return self.pose.shape[0]

    def __getitem__(self, index: Any) -> Self:
        return jax.tree.map(lambda a: a[index], self)

    @property
    def width(self) -> int:
        """Of one camera's picture; on the host only, as a program's shapes hang on it."""
        return int(self.size[0])

    @property
    def height(self) -> int:
        """Of one camera's picture; on the host only."""
        return int(self.size[1])

    def resized(self, size: Sequence[int] | np.ndarray) -> Self:
        """The same views on another number of pixels: `size` [2] or [n, 2], width and height. On the host only."""
        size = np.broadcast_to(np.asarray(size, np.int32), self.size.shape)
        scale = (size / np.asarray(self.size)).astype(np.float32)
        return self.replace(focal=self.focal * scale, centre=self.centre * scale, size=size)


def generate_rays(cameras: Cameras, index: Array, pixels: Array) -> Rays:
    """The rays through pixels of several cameras.

    Args:
      cameras: n cameras.
      index: [r] int, each ray's camera.
      pixels: [r, 2] float, (x, y) with pixel centres at + 0.5.
    """
    origins, directions = rays_through(cameras[index], pixels)
    return Rays(origins=origins, directions=directions, camera=jnp.asarray(index, jnp.int32))


def image_rays(camera: Cameras) -> Rays:
    """The height * width rays through all pixel centres of one camera (`cameras[i]`), row by row.

    They belong to no training camera (-1). The camera's size must be known on the host: within `jax.jit`, take
    `rays_through` with `pixel_centres`.
    """
    origins, directions = rays_through(camera, pixel_centres(camera.width, camera.height))
    return Rays(origins=origins, directions=directions, camera=jnp.full(len(directions), NO_CAMERA, jnp.int32))


def pixel_centres(width: int, height: int) -> np.ndarray:
    """[height * width, 2] float32 (x, y), row by row."""
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    return np.stack([x.ravel(), y.ravel()], -1)


def rays_through(camera: Cameras, pixels: Array) -> tuple[jax.Array, jax.Array]:
    """Origins and unit directions, both [..., 3], for cameras [...] and pixels [..., 2] that broadcast."""
    local = unproject(camera, pixels)
    # Three products summed by hand. A matrix product would round to bfloat16 on a TPU; and a reduction over the last
    # axis, fused into the points of many samples, reads other rows on XLA's CPU backend (jaxlib 0.10.2).
    directions = sum(camera.pose[..., i] * local[..., i, None] for i in range(3))
    return jnp.broadcast_to(camera.pose[..., 3], directions.shape), directions


def unproject(camera: Cameras, pixels: Array) -> jax.Array:
    """Unit directions [..., 3] in the camera's frame, through pixels [..., 2]."""
    # Onto the plane z = 1, on which the distortion models are defined.
    xy = (pixels - camera.centre) / camera.focal
    if camera.model == "OPENCV_FISHEYE":
        return _fisheye_direction(xy, camera.distortion)
    if camera.model != "PINHOLE":
        xy = _undistort(xy, camera.distortion)
    xyz = jnp.concatenate([xy, jnp.ones_like(xy[..., :1])], -1)
    return xyz / jnp.linalg.norm(xyz, axis=-1, keepdims=True)


def project(camera: Cameras, points: Array) -> jax.Array:
    """Pixels [..., 2] that show points [..., 3] in the camera's frame: the inverse of `unproject`.

    Meaningless for points beyond the picture's edges, where a distortion may fold, or behind a perspective camera.
    """
    x, y, z = (points[..., i] for i in range(3))
    if camera.model == "OPENCV_FISHEYE":
        r = jnp.sqrt(jnp.maximum(x * x + y * y, 1e-16))
        scale = _fisheye_radius(jnp.arctan2(r, z), camera.distortion) / r
        return jnp.stack([x, y], -1) * scale[..., None] * camera.focal + camera.centre
    xy = points[..., :2] / jnp.maximum(z, 1e-6)[..., None]
    return _distort(xy, camera.distortion) * camera.focal + camera.centre


def _distort(xy: jax.Array, coefficients: Array) -> jax.Array:
    """OPENCV's distortion of points on the plane z = 1, [..., 2].

    It takes (x, y) to (xd, yd), with r^2 = x^2 + y^2 (BROWN has k3 r^6 beside k2 r^4):
      xd = x (1 + k1 r^2 + k2 r^4) + 2 p1 x y + p2 (r^2 + 2 x^2)
      yd = y (1 + k1 r^2 + k2 r^4) + 2 p2 x y + p1 (r^2 + 2 y^2)
    """
    k1, k2, p1, p2 = (coefficients[..., i] for i in range(4))
    k3 = coefficients[..., 4] if coefficients.shape[-1] > 4 else 0.0
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)
    return jnp.stack([xd, yd], -1)


def _undistort(distorted: jax.Array, coefficients: Array) -> jax.Array:
    """Inverts `_distort` by Newton's method."""

    def step(xy: tuple[jax.Array, jax.Array], coefficients: Array, distorted: Array) -> tuple[jax.Array, jax.Array]:
        k1, k2, p1, p2 = (coefficients[..., i] for i in range(4))
        k3 = coefficients[..., 4] if coefficients.shape[-1] > 4 else None
        x, y = xy
        xd, yd = distorted[..., 0], distorted[..., 1]
        r2 = x * x + y * y
        # The radial factor, whose derivative along x is slope * x.
        radial, slope = 1 + r2 * (k1 + r2 * k2), 2 * (k1 + 2 * k2 * r2)
        if k3 is not None:
            radial, slope = radial + k3 * r2**3, slope + 6 * k3 * r2**2

        # How far the distorted guess is from where it should be.
        ex = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) - xd
        ey = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y) - yd

        # The Jacobian of that error, which is symmetric: [[xx, xy], [xy, yy]].
        xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
        yy = radial + slope * y * y + 2 * p2 * x + 6 * p1 * y
        xy = slope * x * y + 2 * p1 * x + 2 * p2 * y

        # Newton's step: the error times the inverse Jacobian.
        scale = _reciprocal(xx * yy - xy * xy)
        return x - (yy * ex - xy * ey) * scale, y - (xx * ey - xy * ex) * scale

    return jnp.stack(_solved(step, (distorted[..., 0], distorted[..., 1]), coefficients, distorted), -1)


def _solved(step: Callable[..., PyTree], start: PyTree, *known: Array) -> PyTree:
    """What Newton's `step(guess, *known)` comes to from `start`, differentiable with respect to `known`.

    The gradient is that of the last step, taken at the solution (the implicit function theorem): the iterations need
    not be kept, and cost nothing where no gradient is asked for.
    """
    begin, fixed = jax.lax.stop_gradient((start, known))
    # A loop: unrolled, XLA fuses the steps for the CPU and computes each again for every use, which takes minutes.
    guess = jax.lax.fori_loop(0, NEWTON_STEPS - 1, lambda _, guess: step(guess, *fixed), begin)
    return step(guess, *known)


def _fisheye_direction(distorted: jax.Array, coefficients: Array) -> jax.Array:
    """Unit directions of OPENCV_FISHEYE, whose rays at an angle t to the optical axis meet the picture at radius

    r = |distorted| = t (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8), solved for t by Newton's method.
    """
    r2 = (distorted**2).sum(-1, keepdims=True)
    off_centre = r2 > 1e-16
    r = jnp.sqrt(jnp.where(off_centre, r2, 1.0))  # the root's gradient is infinite at 0

    def step(t: jax.Array, coefficients: Array, r: jax.Array) -> jax.Array:
        k1, k2, k3, k4 = (coefficients[..., i, None] for i in range(4))
        t2 = t * t
        error = t * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))) - r
        return t - error * _reciprocal(1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4))))

    t = _solved(step, r, coefficients, r)
    xy = distorted * jnp.where(off_centre, jnp.sin(t) / r, 1.0)
    return jnp.concatenate([xy, jnp.where(off_centre, jnp.cos(t), 1.0)], -1)


def _fisheye_radius(t: jax.Array, coefficients: Array) -> jax.Array:
    """Where OPENCV_FISHEYE's picture shows rays at angles t to the optical axis; see `_fisheye_direction`."""
    k1, k2, k3, k4 = (coefficients[..., i] for i in range(4))
    t2 = t * t
    return t * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))


def _reciprocal(x: jax.Array) -> jax.Array:
    """1 / x, and 0 where the distortion folds and Newton's method has no step to offer."""
    ok = jnp.abs(x) > 1e-6
    return jnp.where(ok, 1 / jnp.where(ok, x, 1), 0)
