"""The 256 levels of an image's channels: how often each occurs, and tables of them looked up.

A TPU adds to rows of a table and reads them one by one; its products do the same for all pixels at once. There a level
is written as its upper and its lower four bits, each as a vector of sixteen numbers of which one is 1: the product of
both over all pixels is the histogram, as a table of 16 x 16.

Shapes: levels [p, c] of p pixels and c channels, whole numbers from 0 to 255.
"""

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def histogram(levels: Array) -> Array:
    """How many of the pixels [p, c] have each level: float32 [c, 256], exact below 2^24 pixels."""
    return lax.platform_dependent(levels, tpu=histogram_by_products, default=histogram_by_adding)


def look_up(table: Array, levels: Array) -> Array:
    """The entry for each of the levels [p, c] in a table [c, 256] of whole numbers from 0 to 255: float32 [p, c]."""
    return lax.platform_dependent(table, levels, tpu=look_up_by_products, default=look_up_by_reading)


def histogram_by_adding(levels: Array) -> Array:
    """`histogram`, pixel by pixel."""
    channels = levels.shape[-1]
    # Counts as floats, which divide faster.
    return jnp.zeros(channels * 256).at[_entries(levels)].add(1.0, mode="promise_in_bounds").reshape(channels, 256)


def look_up_by_reading(table: Array, levels: Array) -> Array:
    """`look_up`, pixel by pixel."""
    return table.reshape(-1).at[_entries(levels)].get(mode="promise_in_bounds")


def _entries(levels: Array) -> Array:
    """Of all channels in one table: entry 256 c + level."""
    return levels + 256 * jnp.arange(levels.shape[-1])


def histogram_by_products(levels: Array) -> Array:
    """`histogram` as a product."""
    upper, lower = _halves(levels)
    counts = jnp.einsum("cip,cjp->cij", upper, lower, preferred_element_type=jnp.float32)
    return counts.reshape(-1, 256)


def look_up_by_products(table: Array, levels: Array) -> Array:
    """`look_up`: by a product the sixteen entries of a level's upper half, of which the lower half selects one."""
    upper, lower = _halves(levels)
    table = table.reshape(-1, 16, 16).astype(jnp.bfloat16)
    rows = jnp.einsum("cij,cip->cjp", table, upper, preferred_element_type=jnp.float32)
    return jnp.sum(rows * lower, 1).T


def _halves(levels: Array) -> tuple[Array, Array]:
    """The upper and the lower four bits, one of sixteen each: [c, 16, p], in bfloat16, which holds 0 to 256 exactly."""
    levels = levels.astype(jnp.uint8).T[:, None]  # bytes, since they are laid out anew: pixels last
    sixteen = jnp.arange(16, dtype=jnp.uint8)[:, None]
    return (levels >> 4 == sixteen).astype(jnp.bfloat16), (levels & 15 == sixteen).astype(jnp.bfloat16)
