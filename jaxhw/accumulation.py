"""Gradient accumulation: a batch in parts that fit the memory, one after the other, for one step of the optimiser."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxhw.task import Context, Task

PyTree = Any


def value_and_grad(
    task: Task, parts: int, place: Callable[[PyTree], PyTree]
) -> Callable[[PyTree, PyTree, PyTree, Context], tuple[PyTree, PyTree]]:
    """``jax.value_and_grad(task.loss, has_aux=True)``, of a batch that is cut into so many parts. Traced.

    All parts start from one model_state. Their losses, model_states, metrics and gradients are averaged; of what has no
    average, such as counts and masks, the last part's stays. The whole batch is augmented at once, so that without
    batch statistics and dropout the parts give what the batch would give, to rounding.

    Args:
      place: lays gradients where their parameters lie. Traced.
    """

    def whole(params: PyTree, model_state: PyTree, batch: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        value, grads = jax.value_and_grad(task.loss, has_aux=True)(params, model_state, batch, context)
        return value, place(grads)

    def in_parts(params: PyTree, model_state: PyTree, batch: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        def of_part(number: jax.Array, part: PyTree) -> tuple[PyTree, PyTree]:
            own = context.replace(rng=jax.random.fold_in(context.rng, number))
            value, grads = jax.value_and_grad(task.part_loss, has_aux=True)(params, model_state, part, own)
            return value, place(grads)

        def add(sums: PyTree, numbered: PyTree) -> tuple[PyTree, None]:
            return jax.tree.map(lambda total, new: _added(total, new, parts), sums, of_part(*numbered)), None

        numbered = jnp.arange(parts), _cut(task.augmented(batch, context), parts, context.mesh)
        shapes = jax.eval_shape(of_part, *jax.tree.map(lambda x: x[0], numbered))
        value, grads = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        return jax.lax.scan(add, (value, place(grads)), numbered)[0]

    return whole if parts == 1 else in_parts


def _added(total: jax.Array, new: jax.Array, parts: int) -> jax.Array:
    return total + new / parts if jnp.issubdtype(new.dtype, jnp.inexact) else new


def _cut(batch: PyTree, parts: int, mesh: Mesh) -> PyTree:
    """Rows [b, ...] -> [parts, b / parts, ...]: part j holds the rows j, j + parts, ...

    So each device works on its own rows of every part, and none travels.
    """
    divided = NamedSharding(mesh, PartitionSpec(None, mesh.axis_names))

    def cut(rows: jax.Array) -> jax.Array:
        cut = jnp.swapaxes(rows.reshape(-1, parts, *rows.shape[1:]), 0, 1)
        return jax.lax.with_sharding_constraint(cut, divided)

    return jax.tree.map(cut, batch)
