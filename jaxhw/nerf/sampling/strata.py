"""Where rays are sampled: stratified along the ray, then by importance where the first samples saw something."""

import jax
import jax.numpy as jnp


def stratified(rng: jax.Array | None, near: jax.Array, far: jax.Array, count: int) -> jax.Array:
    """One distance in each of `count` equal parts of [near, far] (Mildenhall et al. 2020, eq. 2).

    Args:
      rng: for a uniform place in every part; None for the parts' middles.
      near, far: [r].

    Returns:
      [r, count], ascending.
    """
    place = 0.5 if rng is None else jax.random.uniform(rng, (*near.shape, count))
    return near[:, None] + (far - near)[:, None] * (jnp.arange(count) + place) / count


def importance(rng: jax.Array | None, edges: jax.Array, weights: jax.Array, count: int) -> jax.Array:
    """Importance sampling: distances distributed as the histogram of `weights`, by the inverse transform.

    Hierarchical sampling of Mildenhall et al. 2020, section 5.2. No gradient flows through where the samples lie.

    Args:
      rng: for uniform numbers, one in each of `count` strata; None for the strata's middles.
      edges: [r, b + 1] ascending.
      weights: [r, b], at least 0. 1e-5 is added to each, so that a ray without any is sampled evenly.

    Returns:
      [r, count], ascending.
    """
    edges, weights = jax.lax.stop_gradient((edges, weights + 1e-5))
    # The cumulative distribution at the edges, exactly 1 at the last one whatever the sum was rounded to.
    cdf = jnp.cumsum(weights, -1) / weights.sum(-1, keepdims=True)
    cdf = jnp.pad(cdf, ((0, 0), (1, 0))).at[:, -1].set(1.0)
    # Its inverse, linear between edges, at stratified numbers of [0, 1].
    zero = jnp.zeros(len(edges))
    probabilities = stratified(rng, zero, zero + 1, count)
    return jax.vmap(jnp.interp)(probabilities, cdf, edges)
