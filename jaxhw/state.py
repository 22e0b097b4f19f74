"""The state of a training run: one pytree that is stepped, checkpointed and evaluated."""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

PyTree = Any


class Variables(flax.struct.PyTreeNode):
    """What a task has learnt so far: all that evaluation and rendering need.

    Attributes:
      params: what the optimiser updates.
      model_state: what the forward pass updates (batch statistics, a target network, known free space).
    """

    params: PyTree
    model_state: PyTree


class Averages(flax.struct.PyTreeNode):
    """Sums of the step's metrics on the device since the last log, so that no step waits for the host.

    Attributes:
      sums: name -> [] float32.
      count: [] float32, the steps summed.
      bad_step: [] int32, the first step whose loss was not finite, or -1.
    """

    sums: dict[str, jax.Array]
    count: jax.Array
    bad_step: jax.Array

    @classmethod
    def zeros(cls, names: Sequence[str]) -> "Averages":
        zero = jnp.zeros((), jnp.float32)
        return cls({name: zero for name in names}, zero, jnp.full((), -1, jnp.int32))

    def add(self, metrics: dict[str, jax.Array], step: jax.Array) -> "Averages":
        sums = {name: self.sums[name] + value for name, value in metrics.items()}
        first_bad = (self.bad_step < 0) & ~jnp.isfinite(metrics["loss"])
        return Averages(sums, self.count + 1, jnp.where(first_bad, step, self.bad_step))


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step reads and writes.

    Attributes:
      step: [] int32, the steps taken.
      params, model_state: see :class:`Variables`.
      opt_state: optax's state.
      rng: typed PRNG key of the run; step t uses ``fold_in(rng, t)``.
      averages: metrics since the last log. They are part of the state so that a resumed run logs the same lines.
      ema: the variables averaged over steps, or None.
    """

    step: jax.Array
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    rng: jax.Array
    averages: Averages
    ema: Variables | None = None

    @property
    def variables(self) -> Variables:
        """What evaluation uses: the averaged variables where the run keeps them."""
        return self.ema or Variables(self.params, self.model_state)


def update_ema(ema: PyTree, new: PyTree, decay: float, step: jax.Array) -> PyTree:
    """One step of the exponential moving average.

    It is ema += (1 - d)(new - ema), with d = min(decay, (1 + t) / (10 + t)) so that early averages forget the start.

    Counts and masks, which have no average, are the new ones.

    The warm-up of the decay is that of ``tf.train.ExponentialMovingAverage(num_updates=t)``.
    """
    rate = 1 - jnp.minimum(decay, (1 + step) / (10 + step))

    def follow(old: jax.Array, value: jax.Array) -> jax.Array:
        return old + rate.astype(old.dtype) * (value - old) if jnp.issubdtype(old.dtype, jnp.floating) else value

    return jax.tree.map(follow, ema, new)
