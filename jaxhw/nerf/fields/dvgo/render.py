"""Rendering DVGO's grids: block after block, each ray until it is opaque or has no block left; no sample is left out.

Shapes are static, so rays wait in a queue: each round takes the next block of as many as it holds.
"""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxhw.nerf.fields.dvgo.march import live_blocks
from jaxhw.nerf.fields.dvgo.space import BLOCK, Rays, Space
from jaxhw.nerf.networks import voxel_grid as grids
from jaxhw.nerf.rendering import volume
from jaxhw.nerf.sampling import strata as sampling

if TYPE_CHECKING:
    from jaxhw.nerf.fields.dvgo.field import DVGO

PyTree = Any


def render(
    field: "DVGO", params: PyTree, state: PyTree, origins: jax.Array, directions: jax.Array, background: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(colours [r, 3], expected depths [r], opacities [r]) of rays [r, 3].

    The queue shrinks as fewer rays go on, so that the longest ones do not pay for the places of all.
    """
    threshold, space, r = field.phase(params).threshold, field.space(params, state), len(origins)
    rays = Rays.through(space, origins, directions, field.near, field.far, jnp.full(r, 0.5))
    following, end = _following(live_blocks(space, state["cells"], rays))
    views = field.views(params, directions)

    def wants(carry):
        through, _, _, block = carry
        return (through > threshold) & (block < end)

    def advance(queue, carry):
        through, colour, distance, block = carry
        index, _ = sampling.select(wants(carry), queue)
        there, own = index < r, jnp.minimum(index, r - 1)
        tau, t, coordinates = _block(field, params, state, space, rays[own], block[own], there)
        weights, behind = volume.weights_from_thickness(tau)
        weights *= through[own][:, None]
        return (
            through.at[index].multiply(behind, mode="drop"),
            _shade(field, params, state, weights, coordinates, views, own, colour),
            distance.at[index].add((weights * t).sum(-1), mode="drop"),
            block.at[index].set(following[own, block[own] + 1], mode="drop"),
        )

    carry = jnp.ones(r), jnp.zeros((r, 3)), jnp.zeros(r), following[:, 0]
    for share, least in ((4, r // 16), (16, r // 64), (64, 0)):
        go_on = lambda carry, least=least: wants(carry).sum() > least
        carry = jax.lax.while_loop(go_on, functools.partial(advance, max(1, r // share)), carry)
    through, colour, distance, _ = carry
    opacity = 1 - through
    return colour + through[:, None] * background, volume.depth_from_sums(distance, opacity), opacity


def _following(live: jax.Array) -> tuple[jax.Array, int]:
    """(the first live block from each block [r, b] on, [r, b + 1]; b, which stands for none)."""
    b = live.shape[1]
    following = jax.lax.cummin(jnp.where(live, jnp.arange(b), b), axis=1, reverse=True)
    return jnp.pad(following, ((0, 0), (0, 1)), constant_values=b), b


def _block(field, params, state, space: Space, rays: Rays, block: jax.Array, there: jax.Array):
    """Thickness and distance [q, 8] and coordinates [q * 8, 3] of block [q] of each of q rays, of which some are not
    `there` [q]. Density is interpolated only where the mask has something.
    """
    k = block[:, None] * float(BLOCK) + jnp.arange(BLOCK)
    t, coordinates, inside = rays.at(space, k)
    live = there[:, None] & inside & grids.lookup(state["mask"], coordinates)
    coordinates, number = coordinates.reshape(-1, 3), (k + rays.offset[:, None]).ravel()

    def thicken(chosen, tau):
        point = jnp.minimum(chosen, live.size - 1)
        own = rays[point // BLOCK]
        length = space.lengths(own.origins, own.directions, own.start, number[point])
        return tau.at[chosen].set(field.thickness(params, state, coordinates[point]) * length, mode="drop")

    tau = sampling.work_off(live.ravel(), max(1, live.size // 2), thicken, jnp.zeros(live.size)).reshape(k.shape)
    return jnp.where(tau > field.phase(params).threshold, tau, 0), t, coordinates


def _shade(field, params, state, weights: jax.Array, coordinates: jax.Array, views, own: jax.Array, colour: jax.Array):
    """Adds the samples of weights [q, 8] on rays own [q] to the rays' colours [r, 3], but for the lightest."""
    weights = weights.ravel()

    def add(chosen, colour):
        point = jnp.minimum(chosen, weights.size - 1)
        ray = own[point // BLOCK]
        rgb = field.colours(params, state, coordinates[point], views, ray)
        weight = jnp.where(chosen < weights.size, weights[point], 0)
        return colour.at[ray].add(weight[:, None] * rgb)

    return sampling.work_off(weights > field.phase(params).threshold, max(1, weights.size // 4), add, colour)
