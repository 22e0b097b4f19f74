"""From nerfacto's samples to colours: of all of them, or of those that weigh something, in buckets of static size."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.nerfacto.march import Samples
from jaxhw.nerf.fields.nerfacto.networks import Networks, PyTree
from jaxhw.nerf.rendering import volume
from jaxhw.nerf.sampling import buckets


class Composited(NamedTuple):
    """What the field gives at samples: weights [r, s], geometry features [r, s, g], transmittance behind them [r]."""

    weights: jax.Array
    geometry: jax.Array
    transmittance: jax.Array


class Colours(NamedTuple):
    """Colour [r, 3] without background, that of the last sample [r, 3], and the buckets' `fits` [r] and `shaded` []."""

    colour: jax.Array
    last: jax.Array
    fits: jax.Array
    shaded: jax.Array


def composite(networks: Networks, params: PyTree, rays: Rays, samples: Samples, shares: jax.Array) -> Composited:
    """The field's densities, composited front to back."""
    points, inside = samples.unit_points(rays, networks.region)
    density, geometry = networks.density(params, points, shares if networks.options.coarse_to_fine else None)
    density = density.reshape(inside.shape) * inside
    weights, transmittance = volume.weights_from_density(density, samples.lengths)
    return Composited(weights, geometry.reshape(*inside.shape, -1), transmittance)


def colour_all(networks: Networks, params: PyTree, rays: Rays, composited: Composited) -> Colours:
    """Every sample gets a colour."""
    by_ray = networks.by_ray(params, rays.directions, rays.camera)
    colours = networks.colours(params, composited.geometry, by_ray[:, None])
    r, s = composited.weights.shape
    colour = (composited.weights[..., None] * colours).sum(1)
    return Colours(colour, colours[:, -1], jnp.ones(r, bool), jnp.float32(r * s))


def colour_bucket(networks: Networks, params: PyTree, rays: Rays, composited: Composited) -> Colours:
    """Samples of a weight above the threshold, and the last of each ray, as many as a bucket holds.

    Rays from the first that finds no place on do not fit: they are left out of the step.
    """
    r, s = composited.weights.shape
    size = min(math.ceil(networks.options.shaded * r), r * s)
    index, overflow = buckets.select(_heavy(networks, composited).ravel(), size)
    filled, place = index < r * s, jnp.minimum(index, r * s - 1)
    ray = place // s
    by_ray = networks.by_ray(params, rays.directions, rays.camera)
    geometry = composited.geometry.reshape(r * s, -1).at[place].get(mode="promise_in_bounds")
    colours = networks.colours(params, geometry, by_ray.at[ray].get(mode="promise_in_bounds"))
    weight = jnp.where(filled, composited.weights.ravel()[place], 0)
    colour = jax.ops.segment_sum(weight[:, None] * colours, ray, r, indices_are_sorted=True)
    last = jnp.zeros((r, 3)).at[jnp.where(filled & (place % s == s - 1), ray, r)].set(colours, mode="drop")
    fits = jnp.arange(r) < jnp.where(overflow > 0, ray[-1], r)
    return Colours(colour, last, fits, filled.sum().astype(jnp.float32))


def colour_heavy(networks: Networks, params: PyTree, rays: Rays, composited: Composited) -> Colours:
    """For rendering: samples of a weight above the threshold, and the last of each ray, bucket after bucket."""
    r, s = composited.weights.shape
    by_ray = networks.by_ray(params, rays.directions, rays.camera)
    geometry, weights = composited.geometry.reshape(r * s, -1), composited.weights.ravel()

    def add(index: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        colour, last = sums
        place = jnp.minimum(index, r * s - 1)
        ray = jnp.where(index < r * s, place // s, r)
        colours = networks.colours(params, geometry[place], by_ray[jnp.minimum(ray, r - 1)])
        colour = colour.at[ray].add(weights[place, None] * colours, mode="drop")
        return colour, last.at[jnp.where(place % s == s - 1, ray, r)].set(colours, mode="drop")

    size = min(math.ceil(networks.options.shaded * r), r * s)
    zeros = jnp.zeros((r, 3)), jnp.zeros((r, 3))
    heavy = _heavy(networks, composited)
    colour, last = buckets.for_each_bucket(heavy.ravel(), size, add, zeros)
    return Colours(colour, last, jnp.ones(r, bool), heavy.sum().astype(jnp.float32))


def _heavy(networks: Networks, composited: Composited) -> jax.Array:
    """[r, s] bool: samples that get a colour; where it is the background's, the last one does too."""
    heavy = composited.weights > networks.options.threshold
    return heavy.at[:, -1].set(True) if networks.options.background == "last_sample" else heavy
