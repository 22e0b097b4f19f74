"""Volume rendering: from optical thickness along rays to weights, colours, depth and opacity.

A sample's optical thickness is its density times its length, tau = sigma * delta; its opacity is alpha = 1 - exp(-tau).
Everything is written in tau, which has neither the logarithm of 0 nor the division that alpha brings.
"""

import jax
import jax.numpy as jnp


def weights_from_thickness(tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What each sample contributes to its ray (Mildenhall et al. 2020, eq. 3).

    Args:
      tau: [..., s] optical thickness of the samples, front to back.

    Returns:
      (weights [..., s], the transmittance behind the last sample [...]); together they sum to 1.
    """
    through = jnp.cumsum(tau, axis=-1)
    before = jnp.pad(through[..., :-1], [(0, 0)] * (tau.ndim - 1) + [(1, 0)])
    return jnp.exp(-before) * -jnp.expm1(-tau), jnp.exp(-through[..., -1])


def weights_from_density(density: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weights of samples [..., s] with a density per unit length and a length; see `weights_from_thickness`."""
    return weights_from_thickness(density * lengths)


def weights_from_alpha(alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weights of samples [..., s] with an opacity in [0, 1); see `weights_from_thickness`."""
    return weights_from_thickness(-jnp.log1p(-alpha))


def lengths(distances: jax.Array, last: float = 1e10) -> jax.Array:
    """The distance from each sample to the next, [r, s]; the last one reaches to `last`, practically infinity."""
    ends = jnp.full_like(distances[..., :1], last)
    return jnp.diff(distances, axis=-1, append=distances[..., -1:] + ends)


def composite(weights: jax.Array, colours: jax.Array, behind: jax.Array, background: jax.Array) -> jax.Array:
    """Colours of rays, [r, 3]: weights [r, s] times colours [r, s, 3], and the background through what is left.

    Args:
      behind: [r] transmittance behind the last sample.
      background: [3] or [r, 3].
    """
    return (weights[..., None] * colours).sum(-2) + behind[..., None] * background


def expected_depth(weights: jax.Array, distances: jax.Array) -> jax.Array:
    """The mean distance of what a ray sees, [r], from weights and distances [r, s]; 0 where it sees nothing."""
    return depth_from_sums((weights * distances).sum(-1), weights.sum(-1))


def depth_from_sums(weighted_distance: jax.Array, opacity: jax.Array) -> jax.Array:
    """`expected_depth` from its two sums."""
    return weighted_distance / jnp.maximum(opacity, 1e-8)
