"""Learning rates over a run, as functions of the step: each a factor on the peak."""

import math

import jax
import jax.numpy as jnp
import optax


def milestones(steps: list[int], gamma: float) -> optax.Schedule:
    """gamma^n after n of the steps have been reached (PyTorch's MultiStepLR)."""
    return lambda step: gamma ** jnp.sum(step >= jnp.array(steps, jnp.int32))


def cosine(start: int, stop: int, end: float) -> optax.Schedule:
    """From 1 at step `start` along half a cosine to `end` at step `stop` (Loshchilov and Hutter 2017, eq. 5)."""
    return lambda step: end + (1 - end) * _half_cosine((step - start) / (stop - start))


def exponential(steps: int, end: float) -> optax.Schedule:
    """From 1 to `end` at step `steps`, by the same factor each step."""
    return lambda step: end ** (step / steps)


def linear(steps: int, end: float) -> optax.Schedule:
    """From 1 along a line to `end` at step `steps`."""
    return lambda step: 1 - (1 - end) * (step / steps)


def inverse(steps: int, end: float) -> optax.Schedule:
    """1 / (1 + k t) at step t, with the k at which it reaches `end` at step `steps`."""
    k = (1 / end - 1) / steps
    return lambda step: 1 / (1 + k * step)


def onecycle(peak: float, steps: int, at: float) -> optax.Schedule:
    """PyTorch's OneCycleLR with its defaults: peak / 25 to the peak at step `at * steps` - 1, then to peak / 250,000.

    The rate itself, not a factor. Betas and momentum are not cycled (cycle_momentum=False there).
    """
    first, last = peak / 25, peak / 25 / 1e4
    top = max(at * steps - 1, 1.0)  # at least one step up and one down, however short the run
    fall = max(steps - 1 - top, 1.0)

    def rate(step):
        up = peak + (first - peak) * _half_cosine(step / top)
        down = last + (peak - last) * _half_cosine((step - top) / fall)
        return jnp.where(step <= top, up, down)

    return rate


def _half_cosine(t: jax.Array) -> jax.Array:
    """1 at t <= 0, 0 at t >= 1."""
    return 0.5 * (1 + jnp.cos(math.pi * jnp.clip(t, 0.0, 1.0)))
