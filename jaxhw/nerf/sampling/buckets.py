"""Buckets of static size: the few of many samples that are worth computing, packed, of shapes the compiler knows."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

Carry = TypeVar("Carry")


def select(wanted: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The first `size` places where `wanted` [n] holds: one bucket.

    Returns:
      (index [size] int32, ascending, n where the bucket is not full; [] int32 how many did not fit: the overflow).
    """
    (index,) = jnp.nonzero(wanted, size=size, fill_value=wanted.size)
    return index.astype(jnp.int32), jnp.maximum(wanted.sum() - size, 0).astype(jnp.int32)


def for_each_bucket(wanted: jax.Array, size: int, body: Callable[[jax.Array, Carry], Carry], carry: Carry) -> Carry:
    """Calls `carry = body(index [size], carry)` on buckets of the places where `wanted` [n] holds until all are done.

    For rendering, where nothing may overflow; a body must ignore indices equal to n.
    """

    def step(state: tuple[jax.Array, Carry]) -> tuple[jax.Array, Carry]:
        wanted, carry = state
        index, _ = select(wanted, size)
        return wanted.at[index].set(False, mode="drop"), body(index, carry)

    return jax.lax.while_loop(lambda state: state[0].any(), step, (wanted, carry))[1]
