"""Hyperparameter search with Optuna: trials on the validation split, then one run of the winner, then the test.

A sweep's workdir holds study.db (SQLite), trials/<parameters>/ (one workdir a trial), winner/, table.md and
sweep.png. It can be stopped anywhere; the same command continues the trial that was running.

Several processes, also on several hosts, may run the same command at once. They take turns at the study, in which a
trial is running as long as a living process owns its folder; one whose process was killed is gone on with by another.
"""

import contextlib
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import claims, files, lock, plots, task, train
from jaxhw import mesh as meshes
from jaxhw.errors import UserError, warn
from jaxhw.process import StopRequest
from jaxhw.sweep_config import check, default_config, distributions, of_trial, of_winner

__all__ = ["check", "default_config", "label", "run"]

RUNNING = optuna.trial.TrialState.RUNNING


def run(config: ConfigDict, mesh: Mesh, workdir: Path) -> bool:
    """Runs what is left of the trials, writes table and plot, trains the winner; False if it was asked to stop.

    Raises:
      UserError: the sweep contradicts itself, or the workdir is another's; nothing has been written.
    """
    check(config, mesh)
    with lock.turn(workdir):
        claims.claim(workdir, config, ignore=("trials:", *(f"run.{key}" for key in claims.FREE)))
        study = _open(config, workdir)
        if _left(config, study) > 0 and (workdir / "winner").exists():
            raise UserError(f"{workdir} has chosen its winner; for more trials choose another --workdir")
    with StopRequest() as stop:
        return _search(config, study, mesh, workdir, stop) and _train_winner(config, study, mesh, workdir, stop)


def _search(config: ConfigDict, study: optuna.Study, mesh: Mesh, workdir: Path, stop: StopRequest) -> bool:
    """Tries what is left until no other process tries anything either; False if it was asked to stop."""
    while not stop.asked:
        with contextlib.ExitStack() as owning:
            with lock.turn(workdir):
                trial = _next(config, study, workdir, owning)
                left, going_on = _left(config, study), study.get_trials(states=(RUNNING,))
            if trial:
                finished = _try(config, trial, mesh, workdir, stop)
                with lock.turn(workdir):
                    _report(config, study, workdir)
                if not finished:
                    return False
                print(f"trial {trial.number}: {label(trial.params)}  ({left} left)")
            elif going_on:
                _wait(workdir, stop)
            else:
                return True
    return False


def _next(config: ConfigDict, study: optuna.Study, workdir: Path, owning: contextlib.ExitStack) -> optuna.Trial | None:
    """A new trial, whose folder is this process's from here on, within a turn; None where none is left."""
    _queue_again(study, workdir)
    if _left(config, study) <= 0:
        return None
    sampler = optuna.samplers.TPESampler if config.sampler == "tpe" else optuna.samplers.RandomSampler
    # Of each trial's own, so that no two processes draw the same; mixed, since the first draws of near seeds are near.
    [seed] = np.random.SeedSequence((config.seed, len(study.trials))).generate_state(1)
    study.sampler = sampler(seed=int(seed))
    trial = study.ask(distributions(config))
    with contextlib.suppress(lock.InUse):  # another tries the very same values: `_try` says so
        owning.enter_context(lock.held(_folder(workdir, trial.params)))
    return trial


def _wait(workdir: Path, stop: StopRequest) -> None:
    warn(f"other processes train what is left of {workdir}: waiting for them")
    stop.wait(lock.RENEWED)


def _folder(workdir: Path, params: dict[str, Any]) -> Path:
    return workdir / "trials" / label(params)


def label(params: dict[str, Any]) -> str:
    """``lr=0.0004,weight_decay=1e-05``: names a trial's folder; values are whole, to tell near ones apart."""
    return ",".join(f"{key.split('.')[-1]}={value}" for key, value in sorted(params.items()))


def _try(config: ConfigDict, trial: optuna.Trial, mesh: Mesh, workdir: Path, stop: StopRequest) -> bool:
    """Trains one trial and tells the study; False when the run was stopped by a signal."""
    changed, reporter = of_trial(config, trial.params), _Reporter(config, trial, workdir)
    try:
        results = train.run(_made(changed, mesh), changed, mesh, _folder(workdir, trial.params), (reporter,), stop)
    except optuna.TrialPruned:
        told = {"state": optuna.trial.TrialState.PRUNED}
    except (train.Refused, train.Diverged, lock.InUse) as error:
        print(f"trial {trial.number}: {error}")
        told = {"state": optuna.trial.TrialState.FAIL}
    else:
        if not results:
            return False
        value = results[config.metric]
        told = {"values": math.nan if value is None else value}  # null: not finite, so that the trial has failed
    with lock.turn(workdir):
        trial.study.tell(trial, **told, skip_if_finished=True)
    return True


class _Reporter(train.Observer):
    """Tells a trial's evaluations to the study, and ends the trial where the pruner finds it hopeless."""

    def __init__(self, config: ConfigDict, trial: optuna.Trial, workdir: Path):
        self.config, self.trial, self.workdir = config, trial, workdir

    def after_evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        metric = self.config.metric
        if metric not in numbers:
            raise UserError(f"config.metric={metric!r} is none of the evaluation's: {', '.join(numbers)}")
        with lock.turn(self.workdir):
            self.trial.report(numbers[metric], step)
            hopeless = self.config.prune and self.trial.should_prune()
        if hopeless:
            raise optuna.TrialPruned


def _made(config: ConfigDict, mesh: Mesh) -> task.Task:
    """A trial's task; Refused where its values do not go together."""
    try:
        meshes.check_batch_size(config.batch_size, mesh, config.accumulate)
        return task.make(config, mesh)
    except UserError as error:
        raise train.Refused(str(error)) from error


def _train_winner(config: ConfigDict, study: optuna.Study, mesh: Mesh, workdir: Path, stop: StopRequest) -> bool:
    if not _completed(study):
        raise UserError(f"no trial of {workdir} completed; widen or lower config.space")
    best = study.best_trial
    print(f"winner: {label(best.params)} with {config.metric} {best.value:.4f}; training it now")
    changed = of_winner(config, best.params)
    results = {}
    while not results and not stop.asked:
        try:
            results = train.run(task.make(changed, mesh), changed, mesh, workdir / "winner", stop=stop)
        except lock.InUse:
            _wait(workdir, stop)
    if results:
        tested = {k: v for k, v in results.items() if k.startswith("test_") and isinstance(v, float)}
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in tested.items())
        print(f"winner: {numbers}; {workdir / 'table.md'}, {workdir / 'sweep.png'}")
    return bool(results)


def _open(config: ConfigDict, workdir: Path) -> optuna.Study:
    """The study on disk, made if need be; a grid's points are queued."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{workdir / 'study.db'}"
    study = optuna.create_study(storage=storage, study_name="sweep", load_if_exists=True, direction="maximize")
    if config.sampler == "grid":
        for values in itertools.product(*(values for _, _, *values in config.space)):
            point = dict(zip((key for key, *_ in config.space), values, strict=True))
            study.enqueue_trial(point, skip_if_exists=True)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    return study


def _queue_again(study: optuna.Study, workdir: Path) -> None:
    """Queues the trials that a stop or a kill cut off, so that their checkpoints go on."""
    for trial in study.get_trials(states=(RUNNING,)):
        if lock.in_use(_folder(workdir, trial.params)):
            continue
        if trial.number not in _continued(study):
            known = trial.system_attrs.get("fixed_params", trial.params)  # if it was queued, also those not asked for
            study.enqueue_trial(known, user_attrs={"continues": trial.number})
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


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
