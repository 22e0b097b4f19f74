import json
import math
import os
import signal

import optuna
import pytest

from jaxhw import mesh as meshes
from jaxhw import sweep, task
from jaxhw.errors import UserError
from tests.toy import Toy, toy_config

SPACE = (("optim.lr", "log", 1e-3, 1.0), ("optim.weight_decay", "choice", 0.0, 0.1))


class Interrupted(Toy):
    """Asks the process to stop in its ``at``-th evaluation, counted over all trials."""

    seen, at = 0, None

    def evaluate(self, variables, step):
        Interrupted.seen += 1
        if Interrupted.seen == Interrupted.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().evaluate(variables, step)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(task.TASKS, "toy", "tests.test_sweep:Interrupted")
    Interrupted.seen, Interrupted.at = 0, None


def sweep_config(**changes):
    config = sweep.default_config(toy_config(steps=12, checkpoint_every=4))
    config.update({"metric": "val_score", "trials": 6, "space": SPACE, "winner": (("steps", 24), ("validation", 0.0))})
    config.update(changes)
    return config


def run(config, workdir):
    return sweep.run(config, meshes.make_mesh(1), workdir)


def study(workdir):
    return optuna.load_study(study_name="sweep", storage=f"sqlite:///{workdir}/study.db")


def rows(workdir):
    lines = (workdir / "table.md").read_text().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_it_searches_then_trains_the_winner_and_only_then_tests(tmp_path):
    assert run(sweep_config(prune=False), tmp_path)
    trials = study(tmp_path).trials
    assert len(trials) == 6 and all(t.state.is_finished() for t in trials)
    for folder in (tmp_path / "trials").iterdir():
        assert "test_error" not in json.loads((folder / "results.json").read_text())
    winner = json.loads((tmp_path / "winner" / "results.json").read_text())
    assert winner["steps"] == 24 and "test_error" in winner
    chosen = json.loads((tmp_path / "winner" / "config.json").read_text())
    best = max(trials, key=lambda t: t.value)
    assert chosen["optim"]["lr"] == best.params["optim.lr"] and chosen["validation"] == 0
    values = [float(row[3]) for row in rows(tmp_path)]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(best.value, abs=1e-4)
    assert (tmp_path / "sweep.png").stat().st_size > 5000


def test_a_grid_tries_every_combination(tmp_path):
    space = (("optim.lr", "choice", 0.01, 0.1), ("optim.weight_decay", "choice", 0.0, 0.1, 0.2))
    assert run(sweep_config(sampler="grid", space=space, prune=False), tmp_path)
    tried = {(t.params["optim.lr"], t.params["optim.weight_decay"]) for t in study(tmp_path).trials}
    assert tried == {(lr, wd) for lr in (0.01, 0.1) for wd in (0.0, 0.1, 0.2)}


def test_a_grid_that_was_cut_off_while_it_was_queued_is_completed(tmp_path, monkeypatch):
    space = (("optim.lr", "choice", 0.01, 0.1), ("optim.weight_decay", "choice", 0.0, 0.1))
    config = sweep_config(sampler="grid", space=space, prune=False)
    enqueue, calls = optuna.Study.enqueue_trial, []

    def killed(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        enqueue(self, *args, **kwargs)

    monkeypatch.setattr(optuna.Study, "enqueue_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path)
    assert len(study(tmp_path).trials) == 2
    assert run(config, tmp_path)
    assert sorted(tuple(t.params.values()) for t in study(tmp_path).trials) == [
        (0.01, 0.0),
        (0.01, 0.1),
        (0.1, 0.0),
        (0.1, 0.1),
    ]


def test_it_stops_and_resumes_the_trial_that_was_running(tmp_path):
    """Three evaluations a trial: the fifth is the second of trial 1. It continues from its checkpoint."""
    Interrupted.at = 5
    assert not run(sweep_config(prune=False, sampler="random"), tmp_path)
    before = study(tmp_path).trials
    assert [t.state.name for t in before] == ["COMPLETE", "RUNNING"]
    Interrupted.at = None
    assert run(sweep_config(prune=False, sampler="random"), tmp_path)
    trials = study(tmp_path).trials
    assert trials[2].params == before[1].params and trials[2].state.name == "COMPLETE"
    assert len(rows(tmp_path)) == 6  # the cut-off one counts once
    assert len({tuple(t.params.values()) for t in trials}) == 6
    lines = (tmp_path / "trials" / sweep.label(before[1].params) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if "val_score" in line] == [4, 8, 12]


@pytest.mark.parametrize("call", ["enqueue_trial", "tell"])
def test_a_trial_that_was_cut_off_is_queued_once(tmp_path, monkeypatch, call):
    """Also where the process is killed before it is queued again, or before the first attempt is called failed."""
    Interrupted.at = 2
    assert not run(sweep_config(prune=False, sampler="random"), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, call, lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(sweep_config(prune=False, sampler="random"), tmp_path)
    Interrupted.at = None
    assert run(sweep_config(prune=False, sampler="random"), tmp_path)
    assert [t.user_attrs.get("continues") for t in study(tmp_path).trials].count(0) == 1 and len(rows(tmp_path)) == 6


def test_a_stop_in_the_last_evaluation_of_a_trial_stops_the_sweep(tmp_path):
    """Three evaluations a trial and one at its end: the trial is done, no other begins."""
    Interrupted.at = 4
    assert not run(sweep_config(prune=False), tmp_path)
    assert [t.state.name for t in study(tmp_path).trials] == ["COMPLETE"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_no_trial_follows_the_winner(tmp_path):
    assert run(sweep_config(trials=1), tmp_path)
    assert run(sweep_config(trials=1), tmp_path)
    with pytest.raises(UserError, match="has chosen its winner; for more trials choose another --workdir"):
        run(sweep_config(trials=2), tmp_path)
    assert len(study(tmp_path).trials) == 1


def test_values_that_do_not_go_together_are_a_trial_that_failed(tmp_path):
    config = sweep_config(sampler="grid", space=(("batch_size", "choice", 8, -8),), winner=())
    assert run(config, tmp_path)
    assert [row[-1] for row in rows(tmp_path)] == ["complete", "fail"]
    config.run.mesh.cpu_devices = 2  # may change
    assert run(config, tmp_path) and len(rows(tmp_path)) == 2


def test_near_values_have_folders_of_their_own():
    assert len({sweep.label({"optim.lr": lr}) for lr in (1e-3, 1.00001e-3)}) == 2


def test_a_metric_that_no_evaluation_has_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"metric='val_scoer' is none of the evaluation's: val_error, val_score"):
        run(sweep_config(metric="val_scoer"), tmp_path)


def test_bad_trials_are_pruned_and_diverging_ones_fail(tmp_path, monkeypatch):
    values = iter([1.0] * 12 + [0.0] * 12)
    monkeypatch.setattr(
        Toy, "evaluate", lambda self, variables, step: {"val_score": next(values, 0.5), "val_error": 1.0}
    )
    assert run(sweep_config(trials=8), tmp_path)
    assert "PRUNED" in {t.state.name for t in study(tmp_path).trials}
    states = [row[-1] for row in rows(tmp_path)]
    assert any(row[-1] == "pruned" and not math.isnan(float(row[-2])) for row in rows(tmp_path))
    assert states == sorted(states)  # the completed ones, of which the winner is the first, stand before the pruned
    monkeypatch.setattr(Toy, "nan_from", 2)
    with pytest.raises(UserError, match=r"no trial of .* completed"):
        run(sweep_config(trials=2), tmp_path / "nan")
    assert {t.state.name for t in study(tmp_path / "nan").trials} == {"FAIL"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "gird"}, "must be one of grid, random, tpe"),
        ({"space": (("optim.lrr", "log", 1e-3, 1.0),)}, "no key optim.lrr"),
        ({"space": (("optim.lr", "lgo", 1e-3, 1.0),)}, "is neither (key, 'log'"),
        ({"space": (("optim.lr", "log", 1e-3),)}, "is neither (key, 'log'"),
        ({"space": (("optim.lr", "choice"),)}, "is neither (key, 'log'"),
        ({"space": ("optim.lr",)}, "is neither (key, 'log'"),
        ({"space": (("optim.lr", "uniform", 1.0, 0.1),)}, "config.space: ('optim.lr', 'uniform', 1.0, 0.1): "),
        ({"space": (("optim.lr", "log", 0.0, 0.1),)}, "config.space: ('optim.lr', 'log', 0.0, 0.1): "),
        ({"space": (("optim.lr", "choice", 0.1, "x"),)}, "config.optim.lr='x'"),
        ({"winner": (("epoch", 3.0),)}, "no key epoch"),
        ({"winner": ("epochs", 3.0)}, "must hold (key, value) pairs"),
        ({"winner": (("optim.name", "unknown"),)}, "config.optim.name='unknown' must be one of"),
        ({"run": {"optim": {"name": "unknown"}}}, "config.optim.name='unknown' must be one of"),
        ({"run": {"log_every": 0}}, "log_every=0 must be a whole number of at least 1"),
        ({"run": {"batch_size": -8}}, "batch_size=-8 must be a whole number of at least 1"),
        ({"metric": "val_loss"}, "that is to be large"),
        ({"metric": "score"}, "of the validation split"),
        ({"sampler": "grid"}, "a grid needs 'choice'"),
        ({"run": {"validation": 0.0}}, "chooses on the validation split"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, changes, message):
    with pytest.raises(UserError) as caught:
        run(sweep_config(**changes), tmp_path / "sweep")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "sweep").exists()
