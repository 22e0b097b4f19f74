"""Volume rendering: from optical thickness along rays to weights, colours, depth and opacity.

Names: sigma is density per unit length, delta a sample's length, tau = sigma * delta its optical thickness, alpha =
1 - exp(-tau) its opacity, and the transmittance T at a sample is what reaches it of the light of the ray, exp(-sum of
tau before it). A sample's weight is T * alpha. Everything is written in tau, which has neither the logarithm of 0 nor
the division that alpha brings.
"""

import flax.struct
import jax
import jax.numpy as jnp


class Rendered(flax.struct.PyTreeNode):
    """What rays [r] see; or a picture's pixels, [h, w] in the place of [r].

    Attributes:
      colour: [r, 3], in [0, 1] in a picture.
      depth: [r] expected distance along the ray; 0 where it meets nothing.
      opacity: [r] in [0, 1], the sum of the weights.
    """

    colour: jax.Array
    depth: jax.Array
    opacity: jax.Array


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


def composite(weights: jax.Array, colours: jax.Array, transmittance: jax.Array, background: jax.Array) -> jax.Array:
    """Alpha compositing, [r, 3]: weights [r, s] times colours [r, s, 3], and the background through what is left.

    Args:
      transmittance: [r] behind the last sample.
      background: [3] or [r, 3].
    """
    return (weights[..., None] * colours).sum(-2) + transmittance[..., None] * background


def expected_depth(weights: jax.Array, distances: jax.Array) -> jax.Array:
    """The expected depth [r], from weights and distances [r, s]: their weighted mean, 0 where a ray sees nothing."""
    return depth_from_sums((weights * distances).sum(-1), weights.sum(-1))


def depth_from_sums(weighted_distance: jax.Array, opacity: jax.Array) -> jax.Array:
    """`expected_depth` from its two sums."""
    return weighted_distance / jnp.maximum(opacity, 1e-8)


def median_depth(weights: jax.Array, distances: jax.Array) -> jax.Array:
    """The median depth [r]: the distance [r, s] at which half of a ray's light has been stopped, else the last."""
    index = (jnp.cumsum(weights, -1) < 0.5).sum(-1, keepdims=True)
    return jnp.take_along_axis(distances, jnp.minimum(index, distances.shape[-1] - 1), -1)[..., 0]
