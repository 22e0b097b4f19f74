"""What a sweep's config holds, what it makes of a run's, and the check that its parts go together."""

from collections.abc import Sequence
from typing import Any

import optuna
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw import task, train
from jaxhw.errors import UserError
from jaxhw.options import one_of, require

SAMPLERS = ("grid", "random", "tpe")
LOWER_IS_BETTER = ("loss", "error", "lpips")  # how such metrics' names end


def default_config(run: ConfigDict) -> ConfigDict:
    """A sweep over ``run``, the config of each trial.

    ``space`` holds (key, "log" | "uniform", low, high) or (key, "choice", value, ...); ``winner`` holds (key,
    value) pairs that the winner's run changes, such as its length or the held-out fraction.
    """
    return ConfigDict(
        {
            "run": run,
            "sampler": "tpe",
            "trials": 20,  # a grid tries every combination instead
            "prune": True,  # stop trials that are worse than the median of the others at the same step
            "metric": "val_accuracy",  # the larger the better
            "seed": 0,
            "space": (("optim.lr", "log", 1e-5, 1e-2),),
            "winner": (),
        }
    ).lock()


def of_trial(config: ConfigDict, params: dict[str, Any]) -> ConfigDict:
    return configs.changed(config.run, {**params, "test": False})


def of_winner(config: ConfigDict, params: dict[str, Any]) -> ConfigDict:
    return configs.changed(config.run, {**params, **dict(config.winner)})


def distributions(config: ConfigDict) -> dict[str, optuna.distributions.BaseDistribution]:
    return {key: _distribution(kind, values) for key, kind, *values in config.space}


def _distribution(kind: str, values: Sequence[Any]) -> optuna.distributions.BaseDistribution:
    if kind == "choice":
        return optuna.distributions.CategoricalDistribution(values)
    return optuna.distributions.FloatDistribution(*values, log=kind == "log")


def check(config: ConfigDict, mesh: Mesh) -> None:
    """Refuses what cannot be meant; makes the first trial's task and the winner's as they would be made."""
    require("config.sampler", config.sampler, one_of(*SAMPLERS), kind=str)
    if not config.run.get("validation"):
        raise UserError("a sweep chooses on the validation split; set config.run.validation, for example to 0.1")
    if not config.metric.startswith("val_") or config.metric.endswith(LOWER_IS_BETTER):
        raise UserError(f"config.metric={config.metric!r}: choose one of the validation split that is to be large")
    for entry in config.space:
        _check_space(config, entry)
    if not all(isinstance(entry, Sequence) and len(entry) == 2 for entry in config.winner):
        raise UserError(f"config.winner={config.winner!r} must hold (key, value) pairs")
    first = {key: values[0] for key, _, *values in config.space}
    for changed in (of_trial(config, first), of_winner(config, first)):
        meshes.check_batch_size(changed.batch_size, mesh, changed.accumulate)
        train.check(changed, task.make(changed, mesh))


def _check_space(config: ConfigDict, entry: Any) -> None:
    match entry:
        case [str() as key, "log" | "uniform" as kind, low, high]:
            values = [low, high]
        case [str() as key, "choice" as kind, _, *_]:
            values = entry[2:]
        case _:
            forms = "(key, 'log' or 'uniform', low, high) nor (key, 'choice', value, ...)"
            raise UserError(f"config.space: {entry!r} is neither {forms}")
    if config.sampler == "grid" and kind != "choice":
        raise UserError(f"config.space: a grid needs 'choice' and its values for {key}, not {kind!r}")
    for value in values:
        configs.changed(config.run, {key: value})
    try:
        _distribution(kind, values)
    except (TypeError, ValueError) as error:
        raise UserError(f"config.space: {entry!r}: {error}") from None
