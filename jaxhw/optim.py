"""Plain values to optax: learning-rate schedules and the five optimisers, with PyTorch's numerics.

Options are a mapping with the keys of :class:`Options`; missing keys take the defaults.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxhw import directions, schedules
from jaxhw.errors import UserError
from jaxhw.options import Rule, at_least, below, each, one_of, option, read, require
from jaxhw.tree import by_name, path_name

NAMES = ("adam", "adamw", "sgd", "lars", "masked_adam")
SCHEDULES = ("constant", "step", "cosine", "exponential", "linear", "inverse", "onecycle")
Groups = tuple[tuple[str, float | Mapping[str, Any]], ...]  # see `Options.groups`

_SHARE = at_least(0), below(1)
_GROUPS = Rule(
    "of (path prefix, factor of at least 0 or options) pairs such as ('head', 10.0)",
    lambda groups: all(map(_is_group, groups)),
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What ``config.optim`` may set.

    Weight decay is coupled (added to the gradient, before the moments) in adam, sgd and lars and decoupled in adamw, as
    in PyTorch. `decay_exclude="norm_bias"` keeps it off biases and off the scales and offsets of norms, as lars always
    does.
    masked_adam is DVGO's: numbers whose gradient is exactly 0 keep their value and moments, so that voxels that no ray
    of the batch met don't drift.

    `groups` holds pairs of a path prefix and either a factor on the learning rate or options. A parameter belongs to
    the last pair whose prefix its path ("layer1_0/conv1/kernel") starts with; "" starts every path; a parameter of no
    pair has the factor 1. Factor 0 freezes: no update, no decay, no share in the clipped norm, no memory of the
    optimiser's. Options make an optimiser of their own for the group, with its own rate, schedule and clipped norm:
    what they leave out is as for the other parameters.
    """

    name: str = option("adam", "the method", one_of(*NAMES))
    lr: float = option(1e-3, "learning rate at its peak", at_least(0))
    weight_decay: float = option(0.0, "of all parameters, or see decay_exclude", at_least(0))
    decay_exclude: str = option("none", "what weight decay leaves alone", one_of("none", "norm_bias"))
    momentum: float = option(0.9, "of sgd and lars", *_SHARE)
    nesterov: bool = option(True, "Nesterov's momentum in sgd")
    b1: float = option(0.9, "decay of Adam's first moment", *_SHARE)
    b2: float = option(0.999, "decay of Adam's second moment", *_SHARE)
    eps: float = option(1e-8, "of Adam", at_least(0))
    clip_norm: float = option(0.0, "largest global norm of the gradient; 0: no clipping", at_least(0))
    groups: Groups = option((), "parameters with another rate or optimiser", _GROUPS)
    ema: float = option(0.0, "decay of an average of the weights that the training state keeps; 0: none", *_SHARE)
    schedule: str = option("constant", "how the rate goes over the run", one_of(*SCHEDULES))
    warmup_steps: int = option(0, "linear from 0, before or under every schedule but onecycle", at_least(0))
    step_milestones: tuple[float, ...] = option(
        (0.3, 0.6, 0.8), "of schedule step, as fractions of the run", each(Rule("between 0 and 1", lambda v: 0 < v < 1))
    )
    step_gamma: float = option(0.1, "what a milestone multiplies the rate with", at_least(0))
    end_lr: float = option(
        0.0, "where cosine, exponential, linear and inverse end, as a fraction of the peak", at_least(0)
    )
    delay: float = option(
        0.0, "steps, or below 1 a share of the run, with a rate of 0 before the schedule begins", at_least(0)
    )
    onecycle_peak: float = option(
        0.3, "where onecycle's peak lies, as a fraction of the run", Rule("between 0 and 1", lambda v: 0 < v < 1)
    )


def schedule(options: Mapping[str, Any], steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, 0 to `steps` - 1.

    Raises UserError for unknown or impossible options.
    """
    return _schedule(_read(options, steps), steps)


def _schedule(o: Options, steps: int) -> optax.Schedule:
    """The schedule of the run, or of what a delay leaves of it. Adam's moments begin with the run all the same."""
    if not o.delay:
        return _undelayed(o, steps)
    begin = round(o.delay * steps) if o.delay < 1 else round(o.delay)
    later = _undelayed(o, steps - begin)
    return lambda step: jnp.where(step < begin, 0.0, later(jnp.maximum(step - begin, 0)))


def _undelayed(o: Options, steps: int) -> optax.Schedule:
    if o.schedule == "onecycle":
        return schedules.onecycle(o.lr, steps, o.onecycle_peak)
    decay = {
        "constant": lambda step: jnp.ones(()),
        "step": schedules.milestones([round(f * steps) for f in o.step_milestones], o.step_gamma),
        "cosine": schedules.cosine(o.warmup_steps, steps, o.end_lr),
        "exponential": schedules.exponential(steps, o.end_lr),
        "linear": schedules.linear(steps, o.end_lr),
        "inverse": schedules.inverse(steps, o.end_lr or 1.0),
    }[o.schedule]
    return lambda step: o.lr * decay(step) * (jnp.minimum(1.0, step / o.warmup_steps) if o.warmup_steps else 1.0)


def make(options: Mapping[str, Any], steps: int, groups: Groups = (), below: str = "") -> optax.GradientTransformation:
    """The optimiser: clipping, weight decay, the method's direction, the learning rate.

    Its update needs the parameters: `tx.update(gradients, state, params)`. Raises UserError as :func:`schedule` does,
    and in `tx.init` where a group's prefix starts no parameter's path.

    Args:
      groups: pairs that stand before those of the options.
      below: the path, such as "field/", below which the prefixes of the options' groups begin.
    """
    o = _read(options, steps)
    require("optim.groups", groups, _GROUPS, kind=tuple)
    groups = (*groups, *((below + prefix, what) for prefix, what in o.groups))
    if not groups:
        return _chain(o, steps)
    shared = {name: value for name, value in options.items() if name != "groups"}
    own = {
        prefix: _chain(_read({**shared, **what}, steps, f"config.optim.groups: {prefix}"), steps)
        for prefix, what in groups
        if isinstance(what, Mapping)
    }
    return _grouped(_chain(o, steps), own, groups)


def _chain(o: Options, steps: int) -> optax.GradientTransformation:
    """The optimiser of parameters that share all options."""
    decays = is_weight if o.decay_exclude == "norm_bias" or o.name == "lars" else _everywhere
    decay = optax.add_decayed_weights(o.weight_decay, decays) if o.weight_decay else optax.identity()
    rate = optax.scale_by_learning_rate(_schedule(o, steps))
    adam = optax.scale_by_adam(o.b1, o.b2, o.eps)
    links = {
        "adam": (decay, adam, rate),
        "adamw": (adam, decay, rate),
        "masked_adam": (decay, directions.masked_adam(o.b1, o.b2, o.eps), rate),
        "sgd": (directions.momentum(o.momentum, o.nesterov, o.weight_decay, decays), rate),
        "lars": (decay, optax.masked(directions.trust_ratio(), is_weight), rate, optax.trace(o.momentum)),
    }[o.name]
    clip = (optax.clip_by_global_norm(o.clip_norm),) if o.clip_norm else ()
    return optax.chain(*clip, *links)


def restart(
    tx: optax.GradientTransformation, params: optax.Params, old_params: optax.Params, old: optax.OptState
) -> optax.OptState:
    """The optimiser's state for parameters of which some have changed their shapes: only their moments start anew.

    Moments of other parameters and the steps counted for the schedule go on. Optax's Adam counts the steps of all its
    moments together, to correct their start from 0: there one that starts anew takes the others with it.

    Args:
      old_params: the parameters that the state ``old`` belongs to, or their shapes.
    """
    shapes = {name: leaf.shape for name, leaf in by_name(old_params).items()}
    changed = [name for name, leaf in by_name(params).items() if shapes.get(name) != leaf.shape]
    kept = {path_name(path): node for path, node in jax.tree_util.tree_leaves_with_path(old, is_leaf=_counts_together)}

    def choose(path: tuple, new: Any) -> Any:
        name = path_name(path)
        before = kept.get(name)
        if any(f"/{name}".endswith(f"/{parameter}") for parameter in changed) or before is None:
            return new
        return before if jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, new) else new

    return jax.tree_util.tree_map_with_path(choose, tx.init(params), is_leaf=_counts_together)


def _counts_together(node: Any) -> bool:
    return isinstance(node, optax.ScaleByAdamState)


def is_weight(params: optax.Params) -> Any:
    """A tree of bools: False for biases and for the scales and offsets of norms, True for all other parameters."""
    return jax.tree_util.tree_map_with_path(
        lambda path, p: p.ndim > 1 and not path_name(path).endswith(("bias", "scale")), params
    )


def _grouped(
    tx: optax.GradientTransformation, own: Mapping[str, optax.GradientTransformation], groups: Groups
) -> optax.GradientTransformation:
    """`tx`, its updates times their factors, for the parameters whose factor is not 0; `own` for those of a prefix."""

    def group(path: tuple) -> tuple[str, float | Mapping[str, Any]]:
        name = path_name(path)
        return next((pair for pair in reversed(groups) if name.startswith(pair[0])), ("", 1.0))

    def scaled(updates, state, params=None):
        return jax.tree_util.tree_map_with_path(lambda path, u: u * group(path)[1], updates), state

    def label(path: tuple, _) -> str:
        prefix, what = group(path)
        return f"group {prefix}" if isinstance(what, Mapping) else "trained" if what else "frozen"

    def labels(params):
        _check_prefixes(params, groups)
        return jax.tree_util.tree_map_with_path(label, params)

    scale = optax.GradientTransformation(lambda params: optax.EmptyState(), scaled)
    parts = {"trained": optax.chain(tx, scale), "frozen": optax.set_to_zero()}
    return optax.partition(parts | {f"group {prefix}": chain for prefix, chain in own.items()}, labels)


def _check_prefixes(params: optax.Params, groups: Groups) -> None:
    names = list(by_name(params))
    for prefix, _ in groups:
        if not any(name.startswith(prefix) for name in names):
            tops = ", ".join(dict.fromkeys(name.split("/")[0] for name in names))
            raise UserError(f"optim.groups names {prefix!r}, with which no parameter starts; there are {tops}")


def _everywhere(params: optax.Params) -> Any:
    return jax.tree.map(lambda _: True, params)


def _read(options: Mapping[str, Any], steps: int, where: str = "config.optim") -> Options:
    """Options over the defaults; raises a UserError for values that are out of range or contradict each other."""
    o = read(Options, options, where)
    fits = Rule(f"below {steps}, the run's steps", lambda value: value < steps)
    require(f"{where}.warmup_steps", o.warmup_steps, fits, kind=int)
    require(f"{where}.delay", o.delay, Rule(f"below {steps}, the run's steps", lambda value: round(value) < steps))
    if o.schedule in ("exponential", "inverse") and not o.end_lr:
        raise UserError(f"{where}.schedule={o.schedule} never reaches end_lr=0: set it to a fraction such as 0.1")
    if o.schedule == "onecycle" and o.warmup_steps:
        raise UserError(f"{where}.warmup_steps is set, but onecycle warms up by itself: set it to 0")
    return o


def _is_group(pair: Any) -> bool:
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)):
        return False
    factor = pair[1]
    return (isinstance(factor, Mapping) and "groups" not in factor) or (
        isinstance(factor, (int, float)) and not isinstance(factor, bool) and 0 <= factor < math.inf
    )
