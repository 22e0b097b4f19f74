"""Plain values to optax: learning-rate schedules and the five optimisers, with PyTorch's numerics.

Options are a mapping with the keys of :func:`default_options`; missing keys take the defaults.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxhw.errors import UserError

NAMES = ("adam", "adamw", "sgd", "lars", "masked_adam")
SCHEDULES = ("constant", "step", "cosine", "exponential", "onecycle")
TRUST_COEFFICIENT = 1e-3  # eta of LARS
Groups = tuple[tuple[str, float], ...]


def default_options() -> dict[str, Any]:
    """Every option with its default.

    Weight decay is coupled (added to the gradient, before the moments) in adam, sgd and lars and decoupled in adamw, as
    in PyTorch. `decay_exclude="norm_bias"` keeps it off biases and off the scales and offsets of norms, as lars always
    does.
    masked_adam is DVGO's: numbers whose gradient is exactly 0 keep their value and moments, so that voxels that no ray
    of the batch met don't drift.
    `ema` is the decay of an average of the weights, which the training state keeps; no optimiser reads it.
    `groups` holds (path prefix, factor on the learning rate) pairs. A parameter belongs to the last pair whose prefix
    its path ("layer1_0/conv1/kernel") starts with; "" starts every path; a parameter of no pair has the factor 1.
    Factor 0 freezes: no update, no decay, no share in the clipped norm, no memory of the optimiser's.
    """
    return {
        "name": "adam",
        "lr": 1e-3,  # peak
        "weight_decay": 0.0,
        "decay_exclude": "none",  # or "norm_bias"
        "momentum": 0.9,  # sgd, lars
        "nesterov": True,  # sgd
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip_norm": 0.0,  # largest global norm of the gradient; 0: no clipping
        "groups": (),  # (("", 0.1), ("head", 1.0)): a tenth of the rate for all but the head
        "ema": 0.0,  # 0: none
        "schedule": "constant",
        "warmup_steps": 0,  # linear from 0, before or under every schedule but onecycle, which has its own
        "step_milestones": (0.3, 0.6, 0.8),  # as fractions of the run, so that they hold when it is shortened
        "step_gamma": 0.1,
        "end_lr": 0.0,  # where cosine and exponential end, as a fraction of the peak
        "onecycle_peak": 0.3,  # where the peak lies, as a fraction of the run
    }


def schedule(options: Mapping[str, Any], steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, 0 to `steps` - 1.

    Raises UserError for unknown or impossible options.
    """
    o = _checked(options, steps)
    peak, warmup = o["lr"], o["warmup_steps"]
    if o["schedule"] == "onecycle":
        return _onecycle(peak, steps, o["onecycle_peak"])
    decay = {
        "constant": lambda step: jnp.ones(()),
        "step": _milestones([round(f * steps) for f in o["step_milestones"]], o["step_gamma"]),
        "cosine": _cosine(warmup, steps, o["end_lr"]),
        "exponential": lambda step: o["end_lr"] ** (step / steps),
    }[o["schedule"]]
    return lambda step: peak * decay(step) * (jnp.minimum(1.0, step / warmup) if warmup else 1.0)


def make(options: Mapping[str, Any], steps: int, groups: Groups = ()) -> optax.GradientTransformation:
    """The optimiser: clipping, weight decay, the method's direction, the learning rate.

    Its update needs the parameters: `tx.update(gradients, state, params)`. Raises UserError as :func:`schedule` does,
    and in `tx.init` where a group's prefix starts no parameter's path.

    Args:
      groups: pairs that stand before those of the options.
    """
    o = _checked(options, steps)
    wd = o["weight_decay"]
    decays = is_weight if o["decay_exclude"] == "norm_bias" or o["name"] == "lars" else _everywhere
    decay = optax.add_decayed_weights(wd, decays) if wd else optax.identity()
    groups = (*groups, *o["groups"])
    rate = optax.scale_by_learning_rate(schedule(o, steps))
    adam = optax.scale_by_adam(o["b1"], o["b2"], o["eps"])
    links = {
        "adam": (decay, adam, rate),
        "adamw": (adam, decay, rate),
        "masked_adam": (decay, _masked_adam(o["b1"], o["b2"], o["eps"]), rate),
        "sgd": (_momentum(o["momentum"], o["nesterov"], wd, decays), rate),
        "lars": (decay, optax.masked(_trust_ratio(), is_weight), rate, optax.trace(o["momentum"])),
    }[o["name"]]
    clip = (optax.clip_by_global_norm(o["clip_norm"]),) if o["clip_norm"] else ()
    tx = optax.chain(*clip, *links)
    return _grouped(tx, groups) if groups else tx


def restart(tx: optax.GradientTransformation, params: optax.Params, step: jax.Array) -> optax.OptState:
    """A new state for parameters whose shapes have changed: moments start anew, the learning rate goes on at `step`."""
    of_schedule = lambda path, _: getattr(path[-1], "tuple_name", "") == "ScaleByScheduleState"
    return optax.tree_utils.tree_set(tx.init(params), of_schedule, count=step)


def is_weight(params: optax.Params) -> Any:
    """A tree of bools: False for biases and for the scales and offsets of norms, True for all other parameters."""
    return jax.tree_util.tree_map_with_path(
        lambda path, p: p.ndim > 1 and not path_name(path).endswith(("bias", "scale")), params
    )


def _grouped(tx: optax.GradientTransformation, groups: Groups) -> optax.GradientTransformation:
    """`tx` for the parameters whose factor is not 0, its updates times their factors."""

    def scaled(updates, state, params=None):
        return jax.tree.map(lambda u, factor: u * factor, updates, _factors(updates, groups)), state

    scale = optax.GradientTransformation(lambda params: optax.EmptyState(), scaled)

    def labels(params):
        _check_prefixes(params, groups)
        return jax.tree.map(lambda factor: "trained" if factor else "frozen", _factors(params, groups))

    return optax.partition({"trained": optax.chain(tx, scale), "frozen": optax.set_to_zero()}, labels)


def _factors(params: optax.Params, groups: Groups) -> Any:
    def factor(path, _):
        name = path_name(path)
        return next((f for prefix, f in reversed(groups) if name.startswith(prefix)), 1.0)

    return jax.tree_util.tree_map_with_path(factor, params)


def _check_prefixes(params: optax.Params, groups: Groups) -> None:
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for prefix, _ in groups:
        if not any(name.startswith(prefix) for name in names):
            tops = ", ".join(dict.fromkeys(name.split("/")[0] for name in names))
            raise UserError(f"optim.groups names {prefix!r}, with which no parameter starts; there are {tops}")


def path_name(path: tuple) -> str:
    """A key path as text: "layer1_0/conv1/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _everywhere(params: optax.Params) -> Any:
    return jax.tree.map(lambda _: True, params)


def _trust_ratio() -> optax.GradientTransformation:
    """LARS (You et al. 2017, eq. 6) as SimCLR has it: divided by |g + wd w| where the paper has |g| + wd |w|."""
    return optax.scale_by_trust_ratio(trust_coefficient=TRUST_COEFFICIENT)


def _momentum(
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
    """Steps taken, [] int32, and the moments of every number."""

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates


def _masked_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam with DVGO's `skip_zero_grad`; eps is added to the root of the uncorrected second moment, as there.

    The direction is c m / (sqrt(v) + eps) with c = sqrt(1 - b2^t) / (1 - b1^t), t counting all steps.
    """

    def init(params):
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)
        return MaskedAdamState(jnp.zeros((), jnp.int32), zeros(), zeros())

    def update(grads, state, params=None):
        count = state.count + 1
        mu = jax.tree.map(lambda g, m: jnp.where(g != 0, b1 * m + (1 - b1) * g, m), grads, state.mu)
        nu = jax.tree.map(lambda g, v: jnp.where(g != 0, b2 * v + (1 - b2) * g * g, v), grads, state.nu)
        scale = jnp.sqrt(1 - b2**count) / (1 - b1**count)
        direction = lambda g, m, v: jnp.where(g != 0, scale * m / (jnp.sqrt(v) + eps), 0)
        return jax.tree.map(direction, grads, mu, nu), MaskedAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _milestones(steps: list[int], gamma: float) -> optax.Schedule:
    """gamma^n after n of the steps have been reached (PyTorch's MultiStepLR)."""
    return lambda step: gamma ** jnp.sum(step >= jnp.array(steps, jnp.int32))


def _cosine(start: int, stop: int, end: float) -> optax.Schedule:
    """From 1 at step `start` along half a cosine to `end` at step `stop` (Loshchilov and Hutter 2017, eq. 5)."""
    return lambda step: end + (1 - end) * _half_cosine((step - start) / (stop - start))


def _onecycle(peak: float, steps: int, at: float) -> optax.Schedule:
    """PyTorch's OneCycleLR with its defaults: peak / 25 to the peak at step `at * steps` - 1, then to peak / 250,000.

    Betas and momentum are not cycled (cycle_momentum=False there).
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


def _checked(options: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Options over the defaults; raises UserError for what cannot be meant."""
    defaults = default_options()
    if unknown := sorted(set(options) - set(defaults)):
        raise UserError(f"unknown key optim.{unknown[0]}: the keys are {', '.join(defaults)}")
    o = defaults | dict(options)
    for key, choices in (("name", NAMES), ("schedule", SCHEDULES), ("decay_exclude", ("none", "norm_bias"))):
        if o[key] not in choices:
            raise UserError(f"optim.{key} is {o[key]!r}: choose one of {', '.join(choices)}")

    def number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def need(key: str, holds: Callable[[float], bool], what: str) -> None:
        if not (number(o[key]) and holds(o[key])):
            raise UserError(f"optim.{key} is {o[key]!r}: it must be {what}")

    for key in ("lr", "weight_decay", "clip_norm", "step_gamma", "eps", "end_lr"):
        need(key, lambda v: 0 <= v < math.inf, "a finite number of at least 0")
    for key in ("momentum", "b1", "b2", "ema"):
        need(key, lambda v: 0 <= v < 1, "a number in [0, 1)")
    need("onecycle_peak", lambda v: 0 < v < 1, "a fraction of the run, between 0 and 1")
    milestones = o["step_milestones"]
    if not isinstance(milestones, (tuple, list)) or not all(number(v) and 0 < v < 1 for v in milestones):
        raise UserError(
            f"optim.step_milestones is {milestones!r}: it must be fractions of the run, each between 0 and 1"
        )
    need("warmup_steps", lambda v: 0 <= v < steps, f"at least 0 and less than the run's {steps} steps")
    for pair in o["groups"] if isinstance(o["groups"], (tuple, list)) else (o["groups"],):
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str) and number(pair[1])):
            raise UserError(f"optim.groups holds {pair!r}: it must hold pairs such as ('head', 10.0)")
        if not 0 <= pair[1] < math.inf:
            raise UserError(f"optim.groups holds {pair!r}: a factor is a finite number of at least 0")
    if o["schedule"] == "exponential" and not o["end_lr"]:
        raise UserError("optim.schedule=exponential never reaches optim.end_lr=0: set it to a fraction such as 0.1")
    if o["schedule"] == "onecycle" and o["warmup_steps"]:
        raise UserError("optim.warmup_steps is set, but onecycle warms up by itself: set it to 0")
    return o
