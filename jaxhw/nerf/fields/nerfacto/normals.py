"""Predicted normals (Verbin et al., CVPR 2022): a network learns which way surfaces face, from the density's slope.

They smooth what the slope of a hash grid says, and surfaces that a ray meets from behind are held to be wrong.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxhw.nerf.fields.nerfacto.networks import Networks
from jaxhw.nerf.networks.encodings import positional_encoding
from jaxhw.nerf.networks.mlp import MLP

PyTree = Any

FREQUENCIES = 2  # of the positions
WIDTHS = (64, 64, 64, 3)
ORIENTATION, PREDICTED = 1e-4, 1e-3  # weights of the two losses


def start(rng: jax.Array, geometry: int) -> PyTree:
    return MLP(WIDTHS).init(rng, jnp.zeros((1, 3 * (1 + 2 * FREQUENCIES) + geometry)))["params"]


def predicted(params: PyTree, points: jax.Array, geometry: jax.Array) -> jax.Array:
    """Unit normals [k, 3] at points [k, 3] in [0, 1]^3 with geometry features [k, g]."""
    encoded = positional_encoding(2 * jnp.pi * points, FREQUENCIES)
    return _unit(jnp.tanh(MLP(WIDTHS).apply({"params": params}, jnp.concatenate([encoded, geometry], -1))))


def of_density(networks: Networks, params: PyTree, points: jax.Array) -> jax.Array:
    """Unit normals [k, 3] by the slope of the density at points [k, 3]."""
    thickness = lambda points: jnp.log(networks.density(params, points)[0]).sum()
    return -_unit(jax.grad(thickness)(points))


def loss(
    networks: Networks, params: PyTree, points: jax.Array, geometry: jax.Array, weights: jax.Array, views: jax.Array
) -> jax.Array:
    """[] the sum over rays of both losses.

    Args:
      weights: [r, s] of the samples; no gradient flows to them.
      views: [r, 3] directions of the rays.
    """
    shape, weights = (*weights.shape, 3), jax.lax.stop_gradient(weights)
    normals = of_density(networks, params, points).reshape(shape)
    learnt = predicted(params["normals"], points, geometry).reshape(shape)
    away = jnp.maximum((normals * views[:, None]).sum(-1), 0)  # of surfaces that face away from the camera
    apart = 1 - (jax.lax.stop_gradient(normals) * learnt).sum(-1)
    return (weights * (ORIENTATION * away**2 + PREDICTED * apart)).sum()


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.sqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-20))
