"""Marching rays through free space with static shapes: which samples lie where something may be.

In two looks: blocks of 8 samples by one look into a coarse grid of occupied cells, and, for the blocks that hit, each
sample into the full mask. Both leave a bucket of static size, filled ray by ray. Where one is full, the rays from the
first that did not fit whole are left out of the step, and counted.
"""

import flax
import jax
import jax.numpy as jnp

from jaxhw.nerf.fields.dvgo.space import BLOCK, Rays, Space
from jaxhw.nerf.networks import voxel_grid as grids
from jaxhw.nerf.sampling import strata as sampling


@flax.struct.dataclass
class Samples:
    """The live samples of r rays, packed ray by ray, front to back.

    Attributes:
      ray: [k] int32; r where the bucket is not filled.
      number: [k] float32, which sample of its ray.
      distance: [k] along the ray.
      coordinates: [k, 3] in the grid.
      slot: [k] int32, its place among the live samples of its ray.
      complete: [] int32; rays from this one on did not fit.
    """

    ray: jax.Array
    number: jax.Array
    distance: jax.Array
    coordinates: jax.Array
    slot: jax.Array
    complete: jax.Array


def live_blocks(space: Space, cells: jax.Array, rays: Rays) -> jax.Array:
    """[r, count / 8] bool: blocks of samples near an occupied cell; every live sample lies in one.

    Args:
      cells: `grids.coarsen(mask, space.reach)`.
    """
    first = jnp.arange(space.count // BLOCK) * float(BLOCK)
    everyone = jnp.broadcast_to(first, (len(rays), first.size))
    _, middle, _ = rays.at(space, everyone + (BLOCK - 1) / 2)
    vertex = jnp.clip(jnp.round(middle).astype(jnp.int32), 0, jnp.array(space.shape) - 1)
    ends = [space.distance(rays.start[:, None], everyone + rays.offset[:, None] + k) for k in (0, BLOCK - 1)]
    return grids.look(cells, vertex // grids.BLOCK) & (ends[0] <= rays.stop[:, None]) & (ends[1] >= rays.start[:, None])


def march(space: Space, mask: jax.Array, cells: jax.Array, rays: Rays, blocks: int, samples: int) -> Samples:
    """The samples of `rays` whose nearest vertex is in `mask`.

    Args:
      mask: [x, y, z] bool.
      cells: see `live_blocks`.
      blocks, samples: sizes of the buckets.
    """
    count = space.count // BLOCK
    which, blocks_over = sampling.select(live_blocks(space, cells, rays).ravel(), blocks)
    owner = which // count  # r for places that are not filled
    mine = rays[jnp.minimum(owner, len(rays) - 1)]
    number = ((which % count) * BLOCK)[:, None] + jnp.arange(BLOCK)
    _, coordinates, inside = mine.at(space, number.astype(jnp.float32))
    live = grids.lookup(mask, coordinates) & inside & (owner < len(rays))[:, None]
    place, samples_over = sampling.select(live.ravel(), samples)
    filled = place < live.size
    block, within = jnp.minimum(place // BLOCK, blocks - 1), place % BLOCK
    ray = jnp.where(filled, owner[block], len(rays))
    counted = jax.ops.segment_sum(filled.astype(jnp.int32), ray, len(rays), indices_are_sorted=True)
    begin = jnp.cumsum(counted) - counted
    k = number[block, within].astype(jnp.float32)
    own = mine[block]
    fitting = [jnp.where(over, last, len(rays)) for over, last in ((blocks_over, owner[-1]), (samples_over, ray[-1]))]
    distance, where, _ = own.at(space, k[:, None])
    return Samples(
        ray=ray,
        number=k + own.offset,
        distance=distance[:, 0],
        coordinates=where[:, 0],
        slot=jnp.arange(samples) - begin[jnp.minimum(ray, len(rays) - 1)],
        complete=jnp.minimum(*fitting),
    )
