"""Where rays are sampled: strata, an importance distribution, and buckets of static size for what is worth a look."""

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
    """Distances distributed as the histogram of `weights` (section 5.2): its distribution function, inverted.

    No gradient flows through where the samples lie.

    Args:
      rng: for uniform numbers, one in each of `count` strata; None for the strata's middles.
      edges: [r, b + 1] ascending.
      weights: [r, b], at least 0. 1e-5 is added to each, so that a ray without any is sampled evenly.

    Returns:
      [r, count], ascending.
    """
    edges, weights = jax.lax.stop_gradient((edges, weights + 1e-5))
    cdf = jnp.cumsum(weights, -1) / weights.sum(-1, keepdims=True)
    cdf = jnp.pad(cdf, ((0, 0), (1, 0))).at[:, -1].set(1.0)
    zero = jnp.zeros(len(edges))
    wanted = stratified(rng, zero, zero + 1, count)
    return jax.vmap(jnp.interp)(wanted, cdf, edges)


def select(wanted: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The first `size` places where `wanted` [n] holds: a bucket whose shape the compiler knows.

    Returns:
      (index [size] int32, ascending, n where the bucket is not full; [] int32 how many did not fit).
    """
    (index,) = jnp.nonzero(wanted, size=size, fill_value=wanted.size)
    return index.astype(jnp.int32), jnp.maximum(wanted.sum() - size, 0).astype(jnp.int32)


def work_off(wanted: jax.Array, size: int, body, carry):
    """Calls `carry = body(index [size], carry)` on buckets of the places where `wanted` [n] holds until all are done.

    For evaluation, where nothing may overflow; a body must ignore indices equal to n.
    """

    def step(state):
        wanted, carry = state
        index, _ = select(wanted, size)
        return wanted.at[index].set(False, mode="drop"), body(index, carry)

    return jax.lax.while_loop(lambda state: state[0].any(), step, (wanted, carry))[1]
