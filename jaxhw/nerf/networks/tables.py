"""Reading tables of learnt rows with weights, and adding gradients to them: what every grid, hashed or not, rests on.

Names: v rows of a table, c channels, k points, m windows of n consecutive rows that a point reads.

Each platform has a form of its own behind one function. XLA's CPU backend makes one loop of gathers that are written
as a sum (as one gather of [k, m, c] they take ten times as long) and adds a window of rows in the time of a single
number. On a TPU, gathers and scatters run row by row while products are nearly free: small tables are read by a product
with one-hot weights; for large ones the rows are sorted first, so that updates of one row follow one another.
"""

import jax
import jax.numpy as jnp
from jax import lax

SMALL = 4096  # rows of a table that a TPU reads by a product


@jax.custom_vjp
def interpolate(table: jax.Array, rows: jax.Array, weights: jax.Array) -> jax.Array:
    """sum_ij weights[k, i, j] table[rows[k, i] + j], differentiable with respect to the table and the weights.

    Args:
      table: [v, c].
      rows: [k, m] int32 in [0, v - n].
      weights: [k, m, n].

    Returns:
      [k, c].
    """
    return lax.platform_dependent(table, rows, weights, tpu=_read_on_tpu, default=_read_by_gathers)


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


def _forward(table, rows, weights):
    return interpolate(table, rows, weights), (table, rows, weights)


def _backward(saved, gradient):
    table, rows, weights = saved
    count = len(table)
    added = lax.platform_dependent(
        rows,
        weights,
        gradient,
        tpu=lambda *a: _add_on_tpu(*a, count),
        default=lambda *a: _add_windows(*a, count),
    )
    return added, None, _gradient_of_weights(table, rows, weights, gradient)


def _gradient_of_weights(table, rows, weights, gradient):
    """[k, m, n]: each row that was read times the gradient. XLA drops it where points do not move."""
    _, m, n = weights.shape
    each = [[(_rows(table, rows[:, i] + j) * gradient).sum(-1) for j in range(n)] for i in range(m)]
    return jnp.stack([jnp.stack(row, -1) for row in each], -2)


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
