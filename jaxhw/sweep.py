"""Hyperparameter search with Optuna: trials on the validation split, then one run of the winner, then the test.

A sweep's workdir holds study.db (SQLite), trials/<parameters>/ (one workdir a trial), winner/, table.md and
sweep.png. It can be stopped anywhere; the same command continues the trial that was running.
"""

import itertools
import math
from pathlib import Path
from typing import Any

import optuna
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import config as configs
from jaxhw import plots, task, train
from jaxhw.errors import UserError

SAMPLERS = ("grid", "random", "tpe")


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
            "metric": "val_accuracy",
            "seed": 0,
            "space": (("optim.lr", "log", 1e-5, 1e-2),),
            "winner": (),
        }
    ).lock()


def run(config: ConfigDict, mesh: Mesh, workdir: Path) -> bool:
    """Runs what is left of the trials, writes table and plot, trains the winner; False if it was asked to stop."""
    _check(config)
    configs.claim(workdir, config, ignore=("trials:",))
    study = _open(config, workdir)
    while (left := _left(config, study)) > 0:
        trial = study.ask(_distributions(config))
        finished = _try(config, trial, mesh, workdir)
        _report(config, study, workdir)
        if not finished:
            return False
        print(f"trial {trial.number}: {label(trial.params)}  ({left - 1} left)")
    return _train_winner(config, study, mesh, workdir)


def label(params: dict[str, Any]) -> str:
    """``lr=0.0004,weight_decay=1e-05``: names a trial's folder."""
    return ",".join(
        f"{key.split('.')[-1]}={value:.4g}" if isinstance(value, float) else f"{key.split('.')[-1]}={value}"
        for key, value in sorted(params.items())
    )


def _try(config: ConfigDict, trial: optuna.Trial, mesh: Mesh, workdir: Path) -> bool:
    """Trains one trial and tells the study; False when the run was stopped by a signal."""
    changes = {**trial.params, "test": False}
    folder = workdir / "trials" / label(trial.params)
    tell = trial.study.tell

    def watch(step: int, numbers: dict[str, float]) -> None:
        trial.report(numbers[config.metric], step)
        if config.prune and trial.should_prune():
            raise optuna.TrialPruned

    try:
        results = _train(config.run, changes, mesh, folder, watch)
    except optuna.TrialPruned:
        tell(trial, state=optuna.trial.TrialState.PRUNED)
    except train.Diverged as error:
        print(f"trial {trial.number}: {error}")
        tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        if not results:
            return False
        tell(trial, results[config.metric])
    return True


def _train(run_config: ConfigDict, changes: dict[str, Any], mesh: Mesh, folder: Path, watch=None) -> dict[str, Any]:
    changed = ConfigDict(run_config.to_dict())
    changed.update_from_flattened_dict(changes)
    return train.run(task.make(changed, mesh), changed, mesh, folder, watch)


def _train_winner(config: ConfigDict, study: optuna.Study, mesh: Mesh, workdir: Path) -> bool:
    if not _completed(study):
        raise UserError(f"no trial of {workdir} completed; widen or lower config.space")
    best = study.best_trial
    print(f"winner: {label(best.params)} with {config.metric} {best.value:.4f}; training it now")
    results = _train(config.run, {**best.params, **dict(config.winner)}, mesh, workdir / "winner")
    if results:
        tested = {k: v for k, v in results.items() if k.startswith("test_") and isinstance(v, float)}
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in tested.items())
        print(f"winner: {numbers}; {workdir / 'table.md'}, {workdir / 'sweep.png'}")
    return bool(results)


def _open(config: ConfigDict, workdir: Path) -> optuna.Study:
    """The study on disk; a trial that a stop cut off is queued again, so that its checkpoint goes on."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{workdir / 'study.db'}"
    study = optuna.create_study(storage=storage, study_name="sweep", load_if_exists=True, direction="maximize")
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"continues": trial.number})
    if config.sampler == "grid" and not study.trials:
        for values in itertools.product(*(values for _, _, *values in config.space)):
            study.enqueue_trial(dict(zip((key for key, *_ in config.space), values, strict=True)))
    sampler = optuna.samplers.TPESampler if config.sampler == "tpe" else optuna.samplers.RandomSampler
    study.sampler = sampler(seed=config.seed + len(study.trials))  # a resumed study draws anew
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    return study


def _distributions(config: ConfigDict) -> dict[str, optuna.distributions.BaseDistribution]:
    def one(kind: str, *values):
        if kind == "choice":
            return optuna.distributions.CategoricalDistribution(values)
        return optuna.distributions.FloatDistribution(*values, log=kind == "log")

    return {key: one(kind, *values) for key, kind, *values in config.space}


def _left(config: ConfigDict, study: optuna.Study) -> int:
    """Trials still to be run; those cut off by a stop do not count."""
    continued = {trial.user_attrs.get("continues") for trial in study.trials}
    waiting = optuna.trial.TrialState.WAITING
    done = [t for t in study.trials if t.number not in continued and t.state != waiting]
    grid = math.prod(len(values) for _, _, *values in config.space)
    return (grid if config.sampler == "grid" else config.trials) - len(done)


def _completed(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))


def _report(config: ConfigDict, study: optuna.Study, workdir: Path) -> None:
    """Rewrites table.md and sweep.png from what the study holds."""
    continued = {trial.user_attrs.get("continues") for trial in study.trials}
    keys = [key for key, *_ in config.space]
    rows = []
    for trial in study.trials:
        value = trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=None)
        if trial.number not in continued and trial.params:
            rows.append({**trial.params, "value": value, "state": trial.state.name.lower(), "number": trial.number})
    rows.sort(key=lambda row: -1 if row["value"] is None else -row["value"])
    head = ["trial", *keys, config.metric, "state"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [str(row["number"]), *(f"{row[k]:.4g}" if isinstance(row[k], float) else str(row[k]) for k in keys)]
        cells += ["-" if row["value"] is None else f"{row['value']:.4f}", row["state"]]
        lines.append("| " + " | ".join(cells) + " |")
    (workdir / "table.md").write_text("\n".join(lines) + "\n")
    plots.sweep(rows, keys, config.metric, workdir / "sweep.png")


def _check(config: ConfigDict) -> None:
    if config.sampler not in SAMPLERS:
        raise UserError(f"config.sampler={config.sampler!r} is unknown; choose one of {', '.join(SAMPLERS)}")
    if not config.run.get("validation"):
        raise UserError("a sweep chooses on the validation split; set config.run.validation, for example to 0.1")
    for key, kind, *values in config.space:
        parent = config.run
        for name in key.split("."):
            if not isinstance(parent, ConfigDict) or name not in parent:
                raise UserError(f"config.space names {key}, which config.run does not have")
            parent = parent[name]
        if kind not in ("log", "uniform", "choice") or len(values) < 1 or (kind != "choice" and len(values) != 2):
            raise UserError(f"config.space: {key} needs 'log' or 'uniform' with low and high, or 'choice' with values")
        if config.sampler == "grid" and kind != "choice":
            raise UserError(f"config.space: a grid needs 'choice' and its values for {key}, not {kind!r}")
