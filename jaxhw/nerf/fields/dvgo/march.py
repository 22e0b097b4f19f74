"""Ray marching through free space with static shapes: which samples lie where something may be (empty-space skipping).

Twice a test for free space: blocks of 8 samples in a coarse grid of occupied cells and, of the blocks that pass, each
sample in the full mask. Both fill a bucket of static size, ray by ray. Where one is full, the rays from the first that
did not fit whole are left out of the step, and counted.

Names: r rays, b blocks of a ray, k places in the bucket of samples.
"""

import flax
import jax
import jax.numpy as jnp

from jaxhw.nerf.fields.dvgo.space import BLOCK, Segments, Space
from jaxhw.nerf.networks import voxel_grid
from jaxhw.nerf.sampling import buckets


@flax.struct.dataclass
class Samples:
    """The live samples of r rays, packed ray by ray, front to back.

    Attributes:
      ray: [k] int32; r where the bucket is not filled.
      number: [k] float32, which sample of its ray.
      distance: [k] along the ray.
      coordinates: [k, 3] in the grid.
      slot: [k] int32, its place among the live samples of its ray.
      fitting: [2] int32: rays from these on did not fit, into the bucket of blocks and that of samples.
    """

    ray: jax.Array
    number: jax.Array
    distance: jax.Array
    coordinates: jax.Array
    slot: jax.Array
    fitting: jax.Array


def live_blocks(space: Space, cells: jax.Array, segments: Segments) -> jax.Array:
    """[r, b] bool: blocks of samples near an occupied cell; every live sample lies in one.

    Args:
      cells: `voxel_grid.coarsen(mask, space.reach)`.
    """
    # One test a block, in the cell of its middle: cells are dilated by as much as a block's samples reach from there.
    first = jnp.arange(space.count // BLOCK) * float(BLOCK)
    numbers = jnp.broadcast_to(first, (len(segments), first.size))
    _, middle, _ = segments.at(space, numbers + (BLOCK - 1) / 2)
    vertex = jnp.clip(jnp.round(middle).astype(jnp.int32), 0, jnp.array(space.shape) - 1)
    occupied = voxel_grid.gather(cells, vertex // voxel_grid.CELL)
    # Blocks before the ray enters the grid, or behind where it leaves, hold nothing either.
    start, stop = segments.start[:, None], segments.stop[:, None]
    ends = [space.distance(start, numbers + segments.offset[:, None] + k) for k in (0, BLOCK - 1)]
    return occupied & (ends[0] <= stop) & (ends[1] >= start)


def march(space: Space, mask: jax.Array, cells: jax.Array, segments: Segments, blocks: int, samples: int) -> Samples:
    """The samples whose nearest vertex is in `mask`.

    Args:
      mask: [x, y, z] bool.
      cells: see `live_blocks`.
      blocks, samples: sizes of the buckets.
    """
    # The first bucket: blocks near something. `owner` is a block's ray, r for places that are not filled.
    r, count = len(segments), space.count // BLOCK
    which, blocks_over = buckets.select(live_blocks(space, cells, segments).ravel(), blocks)
    owner = which // count
    block_segments = segments[jnp.minimum(owner, r - 1)]
    # The second one: of their samples, those that the mask does not know to be in free space.
    number = ((which % count) * BLOCK)[:, None] + jnp.arange(BLOCK)
    _, coordinates, inside = block_segments.at(space, number.astype(jnp.float32))
    live = voxel_grid.nearest(mask, coordinates) & inside & (owner < r)[:, None]
    place, samples_over = buckets.select(live.ravel(), samples)
    filled = place < live.size
    block, within = jnp.minimum(place // BLOCK, blocks - 1), place % BLOCK
    # Samples are packed ray by ray, so a sample's slot on its ray is its place less that of the ray's first.
    ray = jnp.where(filled, owner[block], r)
    counted = jax.ops.segment_sum(filled.astype(jnp.int32), ray, r, indices_are_sorted=True)
    begin = jnp.cumsum(counted) - counted
    slot = jnp.arange(samples) - begin[jnp.minimum(ray, r - 1)]
    # A bucket that overflowed has cut its last ray, and holds none of those behind it.
    fitting = [jnp.where(over, last, r) for over, last in ((blocks_over, owner[-1]), (samples_over, ray[-1]))]
    k = number[block, within].astype(jnp.float32)
    sample_segments = block_segments[block]
    distance, where, _ = sample_segments.at(space, k[:, None])
    return Samples(
        ray=ray,
        number=k + sample_segments.offset,
        distance=distance[:, 0],
        coordinates=where[:, 0],
        slot=slot,
        fitting=jnp.stack(fitting).astype(jnp.int32),
    )
