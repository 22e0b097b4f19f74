"""Where an optimiser steps, before the learning rate: what optax has in another form, or not at all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

TRUST_COEFFICIENT = 1e-3  # eta of LARS


def trust_ratio() -> optax.GradientTransformation:
    """The trust ratio of LARS (You et al. 2017, eq. 6) as SimCLR has it: by |g + wd w|, in the paper |g| + wd |w|."""
    return optax.scale_by_trust_ratio(trust_coefficient=TRUST_COEFFICIENT)


def momentum(
    momentum: float, nesterov: bool, weight_decay: float, decays: Callable[[optax.Params], Any]
) -> optax.GradientTransformation:
    """PyTorch's SGD: d = g + wd p; b <- m b + d; the update is d + m b with Nesterov, b without.

    Equal to add_decayed_weights and trace, but d is never an array of its own: with `wd p` added last, XLA's CPU
    backend fuses each line into one pass over the tensor, which takes a third of the time.
    """

    def init(params):
        return optax.TraceState(trace=jax.tree.map(jnp.zeros_like, params))

    def update(grads, state, params):
        wd = jax.tree.map(lambda on: weight_decay * on, decays(params))

        def accumulate(buffer):
            return jax.tree.map(lambda g, b, p, w: (g + momentum * b) + w * p, grads, buffer, params, wd)

        buffer = accumulate(state.trace)
        return accumulate(buffer) if nesterov else buffer, optax.TraceState(trace=buffer)

    return optax.GradientTransformation(init, update)


class MaskedAdamState(NamedTuple):
    """Of every parameter: the steps since its moments began, [] int32, and the moments of each of its numbers."""

    count: optax.Updates
    mu: optax.Updates
    nu: optax.Updates


def masked_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam with DVGO's `skip_zero_grad`; eps is added to the root of the uncorrected second moment, as there.

    The direction is c m / (sqrt(v) + eps) with c = sqrt(1 - b2^t) / (1 - b1^t), t counting all steps since the
    parameter's moments began.
    """

    def init(params):
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)
        return MaskedAdamState(jax.tree.map(lambda _: jnp.zeros((), jnp.int32), params), zeros(), zeros())

    def update(grads, state, params=None):
        count = jax.tree.map(lambda t: t + 1, state.count)
        mu = jax.tree.map(lambda g, m: jnp.where(g != 0, b1 * m + (1 - b1) * g, m), grads, state.mu)
        nu = jax.tree.map(lambda g, v: jnp.where(g != 0, b2 * v + (1 - b2) * g * g, v), grads, state.nu)
        scale = jax.tree.map(lambda t: jnp.sqrt(1 - b2**t) / (1 - b1**t), count)
        scale = jax.lax.optimization_barrier(scale)  # else XLA computes it anew for each number of the parameter
        direction = lambda g, m, v, c: jnp.where(g != 0, c * m / (jnp.sqrt(v) + eps), 0)
        return jax.tree.map(direction, grads, mu, nu, scale), MaskedAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)
