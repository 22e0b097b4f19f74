"""Proposal sampling (mip-NeRF 360, section 4; nerfstudio's nerfacto): each round samples where the last saw something.

Names: r rays, s intervals of a ray. Rays are cut into intervals by their edges u [r, s + 1], ascending in [0, 1]; a
`Spacing` says which distances these are. Nothing here lets a gradient through: where samples lie is a choice.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

PADDING = 0.01  # added to each weight: a tenth of that, and what proposals were wrong about once is never found
SPACINGS = ("uniform", "piecewise")


def piecewise(t: jax.Array) -> jax.Array:
    """nerfacto's spacing: even up to a distance of 1, where cameras are, then even in 1 / distance; ascending."""
    return jnp.where(t < 1, t / 2, 1 - 1 / (2 * jnp.maximum(t, 1)))


def piecewise_inverse(s: jax.Array) -> jax.Array:
    return jnp.where(s < 0.5, 2 * s, 1 / (2 - 2 * jnp.maximum(s, 0.5)))


class Spacing(NamedTuple):
    """What edges in [0, 1] mean: distances between near and far, both [r, 1], by one of `SPACINGS`."""

    kind: str
    near: jax.Array
    far: jax.Array

    def distances(self, edges: jax.Array) -> jax.Array:
        """[r, s + 1], from near at 0 to far at 1."""
        if self.kind == "uniform":
            return self.far * edges + self.near * (1 - edges)
        return piecewise_inverse(piecewise(self.far) * edges + piecewise(self.near) * (1 - edges))


def first(rays: int, count: int, jitter: jax.Array | None) -> jax.Array:
    """Edges [r, count + 1] of equal intervals.

    Args:
      jitter: [r] in [0, 1), by which all edges of a ray move within half an interval either way; None: they stay.
    """
    edges = jnp.broadcast_to(jnp.linspace(0, 1, count + 1), (rays, count + 1))
    if jitter is None:
        return edges
    centres = 0.5 * (edges[:, 1:] + edges[:, :-1])
    lower = jnp.concatenate([edges[:, :1], centres], -1)
    upper = jnp.concatenate([centres, edges[:, -1:]], -1)
    return lower + (upper - lower) * jitter[:, None]


def resample(edges: jax.Array, weights: jax.Array, count: int, jitter: jax.Array | None) -> jax.Array:
    """Edges [r, count + 1] distributed as the histogram of weights [r, s], by the inverse transform.

    Args:
      edges: [r, s + 1] of the histogram.
      jitter: [r] in [0, 1), where in their strata all of a ray's edges lie; None: in the middles.
    """
    edges, weights = jax.lax.stop_gradient((edges, weights + PADDING))
    # The cumulative distribution at the edges, at most 1 whatever the sum was rounded to.
    cdf = jnp.minimum(1, jnp.cumsum(weights / weights.sum(-1, keepdims=True), -1))
    cdf = jnp.pad(cdf, ((0, 0), (1, 0)))
    # Its inverse, linear between edges.
    place = 0.5 if jitter is None else jitter[:, None]
    wanted = (jnp.arange(count + 1) + place) / (count + 1)
    return interpolate(jnp.broadcast_to(wanted, (len(edges), count + 1)), cdf, edges)


def interpolate(x: jax.Array, xs: jax.Array, ys: jax.Array) -> jax.Array:
    """Values at x [r, j] of the lines through (xs, ys) [r, i], xs ascending; beyond the ends, those of the ends."""
    above = jnp.clip(count_below(xs, x), 1, xs.shape[1] - 1)
    take = lambda a, index: jnp.take_along_axis(a, index, 1, mode="promise_in_bounds")
    x0, x1, y0, y1 = take(xs, above - 1), take(xs, above), take(ys, above - 1), take(ys, above)
    width = x1 - x0
    share = jnp.where(width > 0, (x - x0) / jnp.where(width > 0, width, 1), 0)
    return y0 + jnp.clip(share, 0, 1) * (y1 - y0)


def count_below(ascending: jax.Array, x: jax.Array) -> jax.Array:
    """How many of each row of [r, i] are at most x [r, j]: [r, j] int32 (torch's searchsorted to the right)."""
    return jax.vmap(lambda a, v: jnp.searchsorted(a, v, side="right", method="scan_unrolled"))(ascending, x)


def anneal(step: jax.Array, steps: float, slope: float = 10.0) -> jax.Array:
    """The exponent of weights that are resampled (mip-NeRF 360, eq. 18): rises from 0 to 1 in so many steps.

    Early on, when proposals know little, samples stay spread out.
    """
    x = jnp.clip(step / max(steps, 1), 0, 1)
    return slope * x / ((slope - 1) * x + 1)


def due(step: jax.Array, since: jax.Array, every: float, warmup: float) -> jax.Array:
    """Whether proposals learn in a step (nerfstudio): ever more seldom, in the end once in `every` + 1 steps.

    Args:
      step: [] int32, counted from 0; nerfstudio goes by the one before it.
      since: [] int32, steps since they last did.
      every, warmup: what `since` has to exceed rises from 0 to `every` in `warmup` steps, but is at least 1.
    """
    last = jnp.maximum(step - 1, 0)
    return (since > jnp.clip(every * last / max(warmup, 1), 1, every)) | (last < 10)


def interlevel_loss(
    edges: jax.Array, weights: jax.Array, outer_edges: jax.Array, outer_weights: jax.Array
) -> jax.Array:
    """The proposal loss (mip-NeRF 360, eq. 13), [r]: how much of the weights a proposal's histogram fails to cover.

    For each interval of the final samples, the proposal's weights of all intervals that it touches bound its own from
    above. No gradient flows to the final samples.

    Args:
      edges, weights: [r, s + 1] and [r, s], of the final samples.
      outer_edges, outer_weights: [r, p + 1] and [r, p], of the proposal.

    Returns:
      The mean over the s intervals.
    """
    edges, weights, outer_edges = jax.lax.stop_gradient((edges, weights, outer_edges))
    count = outer_weights.shape[1]
    total = jnp.pad(jnp.cumsum(outer_weights, -1), ((0, 0), (1, 0)))
    lower = jnp.clip(count_below(outer_edges[:, :-1], edges[:, :-1]) - 1, 0, count - 1)
    upper = jnp.clip(count_below(outer_edges[:, 1:], edges[:, 1:]), 0, count - 1)
    take = lambda index: jnp.take_along_axis(total, index, 1, mode="promise_in_bounds")
    bound = take(upper + 1) - take(lower)
    return (jnp.maximum(weights - bound, 0) ** 2 / (weights + 1e-7)).mean(-1)
