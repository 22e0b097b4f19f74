"""Where a grid lies in the world, and the samples of a ray through it: a box, or all of space contracted into one.

Sample number k (a real number: k + 0.5 is between two samples) of a ray lies at `distance(start, k)`; samples are
`stride` voxels apart. Both kinds are pytrees, so that a box found by the data needs no new compilation.
"""

import math
from typing import Self

import flax
import jax
import jax.numpy as jnp

from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.networks.contraction import contract, infinity_norm

BLOCK = 8  # consecutive samples that are tested for free space together, before each is by itself
FARTHEST = 128.0  # of Contracted, in units of 2 radii


@flax.struct.dataclass
class Box:
    """A grid in a box of the world; rays are sampled evenly from where they enter it.

    Attributes:
      box: [2, 3], the corners, world.
      shape: the grid's vertices along each axis.
      stride: the samples' spacing in voxels.
    """

    box: jax.Array
    shape: tuple[int, int, int] = flax.struct.field(pytree_node=False)
    stride: float = flax.struct.field(pytree_node=False)

    @property
    def count(self) -> int:
        """Samples along the longest ray, a multiple of BLOCK."""
        cells = [n - 1 for n in self.shape]
        slack = 1 + 1 / min(cells)  # voxels are cubes only as far as whole numbers of them fit
        return BLOCK * math.ceil((math.hypot(*cells) * slack / self.stride + 1) / BLOCK)

    @property
    def reach(self) -> int:
        """Vertices, at most, between the one nearest to a block's middle and the one nearest to any of its samples."""
        return math.ceil((BLOCK - 1) / 2 * self.stride * (1 + 1 / min(n - 1 for n in self.shape)))

    @property
    def step(self) -> jax.Array:
        """World units between samples."""
        voxel = ((self.box[1] - self.box[0]) / (jnp.array(self.shape) - 1)).prod() ** (1 / 3)
        return self.stride * voxel

    @property
    def radius(self) -> jax.Array:
        """Half of the longest edge."""
        return (self.box[1] - self.box[0]).max() / 2

    def span(self, origins: jax.Array, directions: jax.Array, near: float, far: float) -> tuple[jax.Array, jax.Array]:
        """Where rays enter and leave, [r] each, within [near, far]; they miss where they leave before they enter."""
        safe = jnp.where(jnp.abs(directions) < 1e-9, 1e-9, directions)
        a, b = (self.box[:, None] - origins) / safe
        return jnp.maximum(jnp.minimum(a, b).max(-1), near), jnp.minimum(jnp.maximum(a, b).min(-1), far)

    def distance(self, start: jax.Array, k: jax.Array) -> jax.Array:
        return start + self.step * k

    def locate(self, points: jax.Array) -> jax.Array:
        """Grid coordinates of world points [..., 3]."""
        return (points - self.box[0]) / (self.box[1] - self.box[0]) * (jnp.array(self.shape) - 1)

    def lengths(self, origins: jax.Array, directions: jax.Array, start: jax.Array, k: jax.Array) -> jax.Array:
        """Lengths of samples, in strides: 1 in a box."""
        return jnp.ones_like(k)

    def holds(self, points: jax.Array) -> jax.Array:
        """Whether world points [..., 3] lie in the grid."""
        return ((points >= self.box[0]) & (points <= self.box[1])).all(-1)

    def strides(self, points: jax.Array) -> jax.Array:
        """How many strides a unit of length is at world points [..., 3], in the geometric mean over directions."""
        return jnp.broadcast_to(1 / self.step, points.shape[:-1])


@flax.struct.dataclass
class Contracted(Box):
    """All of space: `box` is the inner cube, which keeps its shape; what is outside is squeezed into a shell around it.

    With x in units of the cube's half edge around its middle, and n = max |x_i| > 1: x (1 + s - s / n) / n, s the
    `shell` (DVGO v2 with the infinity norm; mip-NeRF 360 has the same form with |x|_2 and s = 1). Distances grow like
    1 / (1 - k) outside. DVGO drops samples that the contraction has brought too close together; here each counts by
    its own contracted length, which needs no dropping.
    """

    shell: float = flax.struct.field(pytree_node=False, default=0.2)

    @property
    def inner(self) -> int:
        """Samples across the cube; as many lie beyond."""
        return int(self.shape[0] / (1 + self.shell) / self.stride) + 1

    @property
    def count(self) -> int:
        return BLOCK * math.ceil(2 * self.inner / BLOCK)

    @property
    def reach(self) -> int:
        return math.ceil(2 * (BLOCK - 1) / 2 * self.stride) + 1  # the contraction stretches by less than 2

    def span(self, origins, directions, near, far):
        full = jnp.full(len(origins), near)
        return full, jnp.full_like(full, far)

    def distance(self, start: jax.Array, k: jax.Array) -> jax.Array:
        """Evenly over two radii, then evenly in 1 / distance to `FARTHEST` times as far."""
        fraction = (k + 0.5) / self.inner
        outside = jnp.clip(fraction - 1, 0, 1) * (1 - 1 / FARTHEST)
        return 2 * self.radius * jnp.where(fraction < 1, fraction, 1 / (1 - outside))

    def locate(self, points):
        x = contract((points - self.box.mean(0)) / self.radius, self.shell)
        return (x / (1 + self.shell) + 1) / 2 * (jnp.array(self.shape) - 1)

    def lengths(self, origins, directions, start, k):
        ends = [self.locate(origins + directions * self.distance(start, k + side)[..., None]) for side in (-0.5, 0.5)]
        return jnp.sqrt(((ends[1] - ends[0]) ** 2).sum(-1) + 1e-12) / self.stride

    def holds(self, points):
        return jnp.ones(points.shape[:-1], bool)

    def strides(self, points):
        """Outside of the cube a length shrinks by 1 / n^2 along the axis of n, by (1 + s - s / n) / n across it."""
        n = jnp.maximum(infinity_norm((points - self.box.mean(0)) / self.radius), 1)
        across = (1 + self.shell - self.shell / n) / n
        along = jnp.where(n > 1, self.shell / n**2, 1)
        vertices = (min(self.shape) - 1) / (2 * self.radius * (1 + self.shell))
        return vertices / self.stride * jnp.cbrt(across**2 * along)


Space = Box | Contracted


@flax.struct.dataclass
class Segments:
    """r rays clipped to a grid, and how they are sampled there.

    Attributes:
      origins, directions: [r, 3], directions of unit length.
      start, stop: [r], between which they are sampled.
      offset: [r] in [0, 1), where in its stride every sample lies.
    """

    origins: jax.Array
    directions: jax.Array
    start: jax.Array
    stop: jax.Array
    offset: jax.Array

    @classmethod
    def through(cls, space: Space, rays: Rays, near: float, far: float, offset: jax.Array) -> Self:
        # Where on its ray a sample lies is no function of the ray: samples move with it, not along it.
        start, stop = jax.lax.stop_gradient(space.span(rays.origins, rays.directions, near, far))
        return cls(rays.origins, rays.directions, start, stop, offset)

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, index: jax.Array) -> Self:
        return jax.tree.map(lambda a: a[index], self)

    def at(self, space: Space, k: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Samples k [r, s] of the rays: (distances [r, s], grid coordinates [r, s, 3], whether they are inside)."""
        t = space.distance(self.start[:, None], k + self.offset[:, None])
        points = self.origins[:, None] + self.directions[:, None] * t[..., None]
        return t, space.locate(points), (t >= self.start[:, None]) & (t <= self.stop[:, None])

    def lengths(self, space: Space, number: jax.Array) -> jax.Array:
        """Lengths, in strides, of one sample of each ray: number [r], a real number with the offset in it."""
        return space.lengths(self.origins, self.directions, self.start, number)
