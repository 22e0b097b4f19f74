"""Losses of radiance fields, per ray or per sample; the caller sums them and divides by how many there are."""

import jax
import jax.numpy as jnp


def psnr(mse: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB of a mean squared error of colours in [0, 1]."""
    return -10 * jnp.log10(jnp.maximum(mse, 1e-10))


def background_entropy(transmittance: jax.Array) -> jax.Array:
    """Entropy of "the ray sees the background", [r], from the transmittance behind its last sample (DVGO, section 5.2).

    It is lowest where a ray sees all of the background or none of it.
    """
    p = jnp.clip(transmittance, 1e-6, 1 - 1e-6)
    return -(p * jnp.log(p) + (1 - p) * jnp.log(1 - p))


def per_point_colour(weights: jax.Array, colours: jax.Array, wanted: jax.Array) -> jax.Array:
    """The per-point colour loss (per-point rgb loss; DVGO, eq. 12), [k]; no gradient to the weights.

    It is each sample's weight times the squared distance of its colour to its pixel's.

    Args:
      weights: [k].
      colours, wanted: [k, 3].
    """
    return jax.lax.stop_gradient(weights) * ((colours - wanted) ** 2).sum(-1)


def total_variation(values: jax.Array, following: jax.Array) -> jax.Array:
    """The total variation loss: smooth L1 distances between neighbouring voxels, summed and divided by 6.

    Its gradient is what DVGO adds: to each voxel a sixth of the differences to its six neighbours, clipped to [-1, 1].

    Args:
      values: [v, c] rows of a grid.
      following: [v, 3] int32 row of the next voxel along each axis; its own number where there is none.
    """
    total = 0.0
    for axis in range(3):
        difference = jnp.abs(values - values[following[:, axis]])
        total += jnp.where(difference < 1, 0.5 * difference**2, difference - 0.5).sum()
    return total / 6


def distortion_loss(weights: jax.Array, middles: jax.Array, widths: jax.Array) -> jax.Array:
    """The distortion loss, [...], how spread out a ray's weights are: sum_ij w_i w_j |m_i - m_j| + 1/3 sum_i w_i^2 d_i.

    mip-NeRF 360, eq. 15, in time linear in the samples, since they are sorted.

    Args:
      weights, middles, widths: [..., s], middles ascending wherever the weight is not 0.
    """
    before = jnp.cumsum(weights, -1) - weights
    moment = weights * middles
    moment_before = jnp.cumsum(moment, -1) - moment
    between = 2 * (weights * (middles * before - moment_before)).sum(-1)
    return between + (weights**2 * widths).sum(-1) / 3
