"""Hyperparameter search with Optuna: trials on the validation split, then one run of the winner, then the test.

A sweep's workdir holds study.db (SQLite), trials/<parameters>/ (one workdir a trial), winner/, table.md and
sweep.png. It can be stopped anywhere; the same command continues the trial that was running.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import claims, files, lock, plots, task, train
from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.options import one_of, require
from jaxhw.process import StopRequest

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


def run(config: ConfigDict, mesh: Mesh, workdir: Path) -> bool:
    """Runs what is left of the trials, writes table and plot, trains the winner; False if it was asked to stop.

    Raises:
      UserError: the sweep contradicts itself, or the workdir is another's or in use; nothing has been written.
    """
    _check(config, mesh)
    with lock.held(workdir):
        return _search(config, mesh, workdir)


def _search(config: ConfigDict, mesh: Mesh, workdir: Path) -> bool:
    claims.claim(workdir, config, ignore=("trials:", *(f"run.{key}" for key in claims.FREE)))
    study = _open(config, workdir)
    if _left(config, study) > 0 and (workdir / "winner").exists():
        raise UserError(f"{workdir} has chosen its winner; for more trials choose another --workdir")
    with StopRequest() as stop:
        while not stop.asked and (left := _left(config, study)) > 0:
            trial = study.ask(_distributions(config))
            finished = _try(config, trial, mesh, workdir, stop)
            _report(config, study, workdir)
            if not finished:
                return False
            print(f"trial {trial.number}: {label(trial.params)}  ({left - 1} left)")
        return not stop.asked and _train_winner(config, study, mesh, workdir, stop)


def label(params: dict[str, Any]) -> str:
    """``lr=0.0004,weight_decay=1e-05``: names a trial's folder; values are whole, to tell near ones apart."""
    return ",".join(f"{key.split('.')[-1]}={value}" for key, value in sorted(params.items()))


def _try(config: ConfigDict, trial: optuna.Trial, mesh: Mesh, workdir: Path, stop: StopRequest) -> bool:
    """Trains one trial and tells the study; False when the run was stopped by a signal."""
    changed = _of_trial(config, trial.params)
    folder = workdir / "trials" / label(trial.params)
    tell = trial.study.tell

    try:
        made = _made(changed, mesh)
        results = train.run(made, changed, mesh, folder, (_Reporter(config, trial),), stop)
    except optuna.TrialPruned:
        tell(trial, state=optuna.trial.TrialState.PRUNED)
    except (train.Refused, train.Diverged) as error:
        print(f"trial {trial.number}: {error}")
        tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        if not results:
            return False
        value = results[config.metric]
        tell(trial, math.nan if value is None else value)  # null: not finite, so that the trial has failed
    return True


class _Reporter(train.Observer):
    """Tells a trial's evaluations to the study, and ends the trial where the pruner finds it hopeless."""

    def __init__(self, config: ConfigDict, trial: optuna.Trial):
        self.config, self.trial = config, trial

    def after_evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        metric = self.config.metric
        if metric not in numbers:
            raise UserError(f"config.metric={metric!r} is none of the evaluation's: {', '.join(numbers)}")
        self.trial.report(numbers[metric], step)
        if self.config.prune and self.trial.should_prune():
            raise optuna.TrialPruned


def _made(config: ConfigDict, mesh: Mesh) -> task.Task:
    """A trial's task; Refused where its values do not go together."""
    try:
        meshes.check_batch_size(config.batch_size, mesh, config.accumulate)
        return task.make(config, mesh)
    except UserError as error:
        raise train.Refused(str(error)) from error


def _of_trial(config: ConfigDict, params: dict[str, Any]) -> ConfigDict:
    return configs.changed(config.run, {**params, "test": False})


def _of_winner(config: ConfigDict, params: dict[str, Any]) -> ConfigDict:
    return configs.changed(config.run, {**params, **dict(config.winner)})


def _train_winner(config: ConfigDict, study: optuna.Study, mesh: Mesh, workdir: Path, stop: StopRequest) -> bool:
    if not _completed(study):
        raise UserError(f"no trial of {workdir} completed; widen or lower config.space")
    best = study.best_trial
    print(f"winner: {label(best.params)} with {config.metric} {best.value:.4f}; training it now")
    changed = _of_winner(config, best.params)
    results = train.run(task.make(changed, mesh), changed, mesh, workdir / "winner", stop=stop)
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
        if trial.number not in _continued(study):
            known = trial.system_attrs.get("fixed_params", trial.params)  # if it was queued, also those not asked for
            study.enqueue_trial(known, user_attrs={"continues": trial.number})
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    if config.sampler == "grid":
        for values in itertools.product(*(values for _, _, *values in config.space)):
            point = dict(zip((key for key, *_ in config.space), values, strict=True))
            study.enqueue_trial(point, skip_if_exists=True)
    sampler = optuna.samplers.TPESampler if config.sampler == "tpe" else optuna.samplers.RandomSampler
    study.sampler = sampler(seed=config.seed + len(study.trials))  # a resumed study draws anew
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    return study


def _distributions(config: ConfigDict) -> dict[str, optuna.distributions.BaseDistribution]:
    return {key: _distribution(kind, values) for key, kind, *values in config.space}


def _distribution(kind: str, values: Sequence[Any]) -> optuna.distributions.BaseDistribution:
    if kind == "choice":
        return optuna.distributions.CategoricalDistribution(values)
    return optuna.distributions.FloatDistribution(*values, log=kind == "log")


def _left(config: ConfigDict, study: optuna.Study) -> int:
    """Trials still to be run; those cut off by a stop do not count."""
    continued = _continued(study)
    waiting = optuna.trial.TrialState.WAITING
    done = [t for t in study.trials if t.number not in continued and t.state != waiting]
    grid = math.prod(len(values) for _, _, *values in config.space)
    return (grid if config.sampler == "grid" else config.trials) - len(done)


def _continued(study: optuna.Study) -> set[int]:
    """The trials cut off by a stop, whose places others have taken."""
    return {trial.user_attrs["continues"] for trial in study.trials if "continues" in trial.user_attrs}


def _completed(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))


def _report(config: ConfigDict, study: optuna.Study, workdir: Path) -> None:
    """Rewrites table.md and sweep.png from what the study holds."""
    continued = _continued(study)
    keys = [key for key, *_ in config.space]
    rows = []
    for trial in study.trials:
        value = trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=None)
        if trial.number not in continued and trial.params:
            rows.append({**trial.params, "value": value, "state": trial.state.name.lower(), "number": trial.number})
    # the winner is one of the completed trials: others have the best of what they reached
    rows.sort(key=lambda row: (row["state"] != "complete", -1 if row["value"] is None else -row["value"]))
    head = ["trial", *keys, config.metric, "state"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [str(row["number"]), *(f"{row[k]:.4g}" if isinstance(row[k], float) else str(row[k]) for k in keys)]
        cells += ["-" if row["value"] is None else f"{row['value']:.4f}", row["state"]]
        lines.append("| " + " | ".join(cells) + " |")
    files.write(workdir / "table.md", "\n".join(lines) + "\n")
    plots.sweep(rows, keys, config.metric, workdir / "sweep.png")


def _check(config: ConfigDict, mesh: Mesh) -> None:
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
    for changed in (_of_trial(config, first), _of_winner(config, first)):
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
