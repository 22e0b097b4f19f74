"""Reading tables of learnt rows by trilinear interpolation, and its gradients: what every grid rests on, hashed or not.

Names: v rows of a table, c channels, k points. The eight corners of the cell that a point is in are read as m windows
of n consecutive rows: 4 of 2 where corners along z lie side by side, else 8 of 1.

Each platform has a form of its own behind one function. XLA's CPU backend makes one loop of gathers that are written
as a sum (as one gather of [k, m, c] they take ten times as long) and adds a window of rows in the time of a single
number. On a TPU, gathers and scatters run row by row while products are nearly free: small tables are read by a product
with one-hot weights; for large ones the rows are sorted first, so that updates of one row follow one another.
"""

from itertools import product

import jax
import jax.numpy as jnp
from jax import lax

SMALL = 4096  # rows of a table that a TPU reads by a product
EDGES = tuple(product((0, 1), repeat=2))  # those along z of a cell, by their x and y
CORNERS = tuple(product((0, 1), repeat=3))


@jax.custom_vjp
def interpolate(table: jax.Array, rows: jax.Array, fraction: jax.Array) -> jax.Array:
    """Values [k, c] within cells; differentiable with respect to the table and the fraction.

    Args:
      table: [v, c].
      rows: [k, m] int32 in [0, v - n], the first row of each window, in the order of `EDGES` or `CORNERS`.
      fraction: [k, 3], where a point is in its cell.
    """
    weights = weights_of(fraction, rows.shape[1])
    return lax.platform_dependent(table, rows, weights, tpu=_read_on_tpu, default=_read_by_gathers)


def weights_of(fraction: jax.Array, windows: int) -> jax.Array:
    """[k, m, n]: what a cell's corners weigh at a fraction [k, 3] of it."""
    share = jnp.stack([1 - fraction, fraction], -1)  # [k, 3, 2]
    if windows == len(EDGES):
        return jnp.stack([(share[:, 0, i] * share[:, 1, j])[:, None] * share[:, 2] for i, j in EDGES], -2)
    return jnp.stack([(share[:, 0, i] * share[:, 1, j] * share[:, 2, k])[:, None] for i, j, k in CORNERS], -2)


def _read_by_gathers(table: jax.Array, rows: jax.Array, weights: jax.Array) -> jax.Array:
    _, m, n = weights.shape
    return sum(_rows(table, rows[:, i] + j) * weights[:, i, j, None] for i in range(m) for j in range(n))


def _read_on_tpu(table: jax.Array, rows: jax.Array, weights: jax.Array) -> jax.Array:
    if len(table) > SMALL:
        return _read_by_gathers(table, rows, weights)
    return jnp.matmul(_one_hot(rows, weights, len(table)), table, precision="highest")


def _add_windows(rows: jax.Array, weights: jax.Array, gradient: jax.Array, count: int) -> jax.Array:
    """The gradient [v, c] of `interpolate` with respect to its table of `count` rows, window by window."""
    _, _, n = weights.shape
    windows = (weights[..., None] * gradient[:, None, None, :]).reshape(-1, n, gradient.shape[1])
    return _scatter(rows.reshape(-1), windows, count)


def _add_on_tpu(rows: jax.Array, weights: jax.Array, gradient: jax.Array, count: int) -> jax.Array:
    if count <= SMALL:
        return jnp.matmul(_one_hot(rows, weights, count).T, gradient, precision="highest")
    _, m, n = weights.shape
    flat = (rows[..., None] + jnp.arange(n)).reshape(-1)
    order = jnp.argsort(flat)
    point, weight = order // (m * n), weights.reshape(-1)[order]
    updates = weight[:, None] * gradient[point]
    return (
        jnp.zeros((count, gradient.shape[1]))
        .at[flat[order]]
        .add(updates, indices_are_sorted=True, mode="promise_in_bounds")
    )


def _forward(table, rows, fraction):
    return interpolate(table, rows, fraction), (table, rows, fraction)


def _backward(saved, gradient):
    table, rows, fraction = saved
    count = len(table)
    added = lax.platform_dependent(
        rows,
        weights_of(fraction, rows.shape[1]),
        gradient,
        tpu=lambda *a: _add_on_tpu(*a, count),
        default=lambda *a: _add_windows(*a, count),
    )
    return added, None, _gradient_of_fraction(table, rows, fraction, gradient)


def _gradient_of_fraction(table, rows, fraction, gradient):
    """[k, 3]: along each axis the corners of one face less those of the other. XLA drops it where points do not move.

    All in columns [k], each channel by name: reductions, and gradients of the weights' small axes, make XLA's CPU
    backend write every one of them (18 ms a table of 131,072 points instead of 2).
    """
    n = len(CORNERS) // rows.shape[1]
    values = [_rows(table, rows[:, number // n] + number % n) for number in range(len(CORNERS))]
    pulls = [sum(value[:, c] * gradient[:, c] for c in range(table.shape[1])) for value in values]
    shares = [(1 - x, x) for x in fraction.T]

    def slope(axis: int) -> jax.Array:
        total = 0.0
        for corner, pull in zip(CORNERS, pulls, strict=True):
            a, b = (shares[other][corner[other]] for other in range(3) if other != axis)
            total += a * b * pull if corner[axis] else -a * b * pull
        return total

    return jnp.stack([slope(axis) for axis in range(3)], -1)


interpolate.defvjp(_forward, _backward)


def _rows(table: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.asarray(table).at[index].get(mode="promise_in_bounds")


def _scatter(rows: jax.Array, windows: jax.Array, count: int) -> jax.Array:
    """[count, c] zeros to which windows [w, n, c] are added at rows [w]."""
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2), inserted_window_dims=(), scatter_dims_to_operand_dims=(0,)
    )
    zeros = jnp.zeros((count, windows.shape[-1]), windows.dtype)
    return lax.scatter_add(zeros, rows[:, None], windows, numbers, mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)


def _one_hot(rows: jax.Array, weights: jax.Array, count: int) -> jax.Array:
    """[k, v]: the weight with which a point reads each row."""
    _, m, n = weights.shape
    each = [jax.nn.one_hot(rows[:, i] + j, count) * weights[:, i, j, None] for i in range(m) for j in range(n)]
    return sum(each)
