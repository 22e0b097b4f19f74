"""Rendering DVGO's grids: block after block, each ray until it is opaque (early ray termination) or has no block left.

No sample is left out. Shapes are static, so rays wait in a queue: each round takes the next block of as many as it
holds, q.
"""

import functools

import flax
import jax
import jax.numpy as jnp

from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.dvgo.grid import Grid
from jaxhw.nerf.fields.dvgo.march import live_blocks
from jaxhw.nerf.fields.dvgo.space import BLOCK, Segments
from jaxhw.nerf.networks import voxel_grid
from jaxhw.nerf.rendering import volume
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.sampling import buckets


@flax.struct.dataclass
class _Progress:
    """How far rays have come: transmittance [r], colour [r, 3] and weighted distance [r] so far, next block [r]."""

    transmittance: jax.Array
    colour: jax.Array
    distance: jax.Array
    block: jax.Array


def render(grid: Grid, near: float, far: float, rays: Rays, background: jax.Array) -> Rendered:
    """What rays [r] see before a background [3]."""
    threshold, r = grid.options.threshold, len(rays)
    segments = Segments.through(grid.space, rays, near, far, jnp.full(r, 0.5))
    following, end = _following(live_blocks(grid.space, grid.state.cells, segments))
    directions = grid.of_directions(rays.directions)

    def goes_on(progress: _Progress) -> jax.Array:
        return (progress.transmittance > threshold) & (progress.block < end)

    def advance(queue: int, progress: _Progress) -> _Progress:
        # Who goes on takes one more block of samples.
        index, _ = buckets.select(goes_on(progress), queue)
        real, ray = index < r, jnp.minimum(index, r - 1)
        tau, t, coordinates = _block(grid, segments[ray], progress.block[ray], real)
        # Its samples weigh what the blocks before it let through.
        weights, transmittance = volume.weights_from_thickness(tau)
        weights *= progress.transmittance[ray][:, None]
        return _Progress(
            transmittance=progress.transmittance.at[index].multiply(transmittance, mode="drop"),
            colour=_shade(grid, weights, coordinates, directions, ray, progress.colour),
            distance=progress.distance.at[index].add((weights * t).sum(-1), mode="drop"),
            block=progress.block.at[index].set(following[ray, progress.block[ray] + 1], mode="drop"),
        )

    progress = _Progress(jnp.ones(r), jnp.zeros((r, 3)), jnp.zeros(r), following[:, 0])
    # The queue shrinks as fewer rays go on, so that the longest ones do not pay for the places of all.
    for share, least in ((4, r // 16), (16, r // 64), (64, 0)):
        many = lambda progress, least=least: goes_on(progress).sum() > least
        progress = jax.lax.while_loop(many, functools.partial(advance, max(1, r // share)), progress)
    opacity = 1 - progress.transmittance
    colour = progress.colour + progress.transmittance[:, None] * background
    return Rendered(colour, volume.depth_from_sums(progress.distance, opacity), opacity)


def _following(live: jax.Array) -> tuple[jax.Array, int]:
    """(the first live block from each block [r, b] on, [r, b + 1]; b, which stands for none)."""
    b = live.shape[1]
    following = jax.lax.cummin(jnp.where(live, jnp.arange(b), b), axis=1, reverse=True)
    return jnp.pad(following, ((0, 0), (0, 1)), constant_values=b), b


def _block(grid: Grid, segments: Segments, block: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Thickness and distance [q, 8] and coordinates [q * 8, 3] of block [q] of each of q rays.

    Args:
      real: [q] bool, False where the queue is not full.
    """
    k = block[:, None] * float(BLOCK) + jnp.arange(BLOCK)
    t, coordinates, inside = segments.at(grid.space, k)
    live = real[:, None] & inside & voxel_grid.nearest(grid.state.mask, coordinates)
    coordinates, number = coordinates.reshape(-1, 3), (k + segments.offset[:, None]).ravel()

    # Density is interpolated only where the mask has something, half of the block's samples at a time.
    def thicken(chosen: jax.Array, tau: jax.Array) -> jax.Array:
        sample = jnp.minimum(chosen, live.size - 1)
        length = segments[sample // BLOCK].lengths(grid.space, number[sample])
        return tau.at[chosen].set(grid.thickness(coordinates[sample]) * length, mode="drop")

    tau = buckets.for_each_bucket(live.ravel(), max(1, live.size // 2), thicken, jnp.zeros(live.size))
    tau = tau.reshape(k.shape)
    return jnp.where(tau > grid.options.threshold, tau, 0), t, coordinates


def _shade(
    grid: Grid,
    weights: jax.Array,
    coordinates: jax.Array,
    directions: jax.Array | None,
    ray: jax.Array,
    colour: jax.Array,
) -> jax.Array:
    """Adds samples of weights [q, 8] on rays `ray` [q] to the rays' colours [r, 3], but for the lightest samples."""
    weights = weights.ravel()

    def add(chosen: jax.Array, colour: jax.Array) -> jax.Array:
        sample = jnp.minimum(chosen, weights.size - 1)
        own = ray[sample // BLOCK]
        rgb = grid.colours(coordinates[sample], directions, own)
        weight = jnp.where(chosen < weights.size, weights[sample], 0)
        return colour.at[own].add(weight[:, None] * rgb)

    heavy = weights > grid.options.threshold
    return buckets.for_each_bucket(heavy, max(1, weights.size // 4), add, colour)
