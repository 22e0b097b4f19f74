"""Studies of the toy task: dependencies, seeds, what is missing, stopping and resuming, table and figures."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from jaxhw import study, task
from jaxhw.errors import UserError
from tests.toy import Toy, toy_config


class Grown(Toy):
    """Starts where another run ended; needs data that may be missing or unreadable; scores as an image task would."""

    evaluations, stop_at, trained = 0, None, []

    def __init__(self, config, mesh):
        if config.validation == 0.5:
            raise UserError("there is no data set here")
        if config.validation == 0.6:
            Path(__file__, "config.json").read_text()
        super().__init__(config, mesh)
        Grown.trained.append(config.init_from)

    def init_from(self, shapes):
        return {"params": {"w": np.array(json.loads(Path(self.config.init_from, "w.json").read_text()))}}

    def evaluate(self, variables, step):
        Grown.evaluations += 1
        if Grown.evaluations == Grown.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"test_accuracy": 1 / (1 + super().evaluate(variables, step)["val_error"])}

    def finish(self, variables, workdir):
        (workdir / "w.json").write_text(json.dumps(np.asarray(variables.params["w"]).tolist()))
        return self.evaluate(variables, self.steps)


@pytest.fixture(autouse=True, scope="module")
def toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(task.TASKS, "toy", "tests.test_study:Grown")
        yield


def study_config(**changes):
    config = study.default_config({"short": toy_config(steps=8), "still": toy_config(steps=8, optim={"lr": 0.0})})
    config.runs = (
        ("first", "short", ()),
        ("lost", "short", (("validation", 0.5),)),
        ("after first", "still", (("init_from", "@first"), ("log_every", 2))),
        ("after lost", "still", (("init_from", "@lost"),)),
    )
    config.update({"seeds": (0, 1), **changes})
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    assert study.run(study_config(), workdir)
    return workdir


@pytest.fixture
def again(whole, tmp_path):
    """A copy to go on with; what is trained from here on is counted."""
    Grown.trained = []
    shutil.copytree(whole, tmp_path / "study")
    return tmp_path / "study"


def rows(workdir):
    table = (workdir / "table.md").read_text().splitlines()
    return {line.split("|")[1].strip(): [cell.strip() for cell in line.strip("|").split("|")[1:]] for line in table[2:]}


def saved(workdir):
    return {row["run"]: row["seeds"] for row in json.loads((workdir / "study.json").read_text())["runs"]}


def results(workdir, name, seed):
    return json.loads((study.folder(workdir, name, seed) / "results.json").read_text())["test_accuracy"]


def test_runs_build_on_each_other_seed_by_seed_and_what_is_missing_is_a_row(whole):
    values = [[results(whole, name, seed) for seed in (0, 1)] for name in ("first", "after first")]
    assert values[0] == values[1] and values[0][0] != values[0][1]  # nothing learnt since, so equal
    table = rows(whole)
    mean, deviation = np.mean(values[0]), np.std(values[0], ddof=1)
    assert table["first"] == [f"{100 * mean:.2f} ± {100 * deviation:.2f} %", "2 seeds"]
    assert table["lost"] == ["-", "not run: there is no data set here"]
    assert table["after lost"] == ["-", "not run: it needs lost, which has no results"]
    assert (whole / "accuracy.png").stat().st_size > 5000
    assert saved(whole)["first"]["1"]["test_accuracy"] == values[0][1] and saved(whole)["lost"] == {}


def test_it_stops_and_continues_where_it_was(tmp_path):
    """Two evaluations and the final one a run: the fourth is half-way through the second run that can run."""
    Grown.evaluations, Grown.stop_at = 0, 4
    assert not study.run(study_config(seeds=(0,)), tmp_path)
    assert rows(tmp_path)["after first"] == ["-", "to come"]
    Grown.stop_at, Grown.trained = None, []
    assert study.run(study_config(seeds=(0,)), tmp_path)
    assert Grown.trained == [str(study.folder(tmp_path, "first", 0))]  # the finished run was not made again
    assert rows(tmp_path)["after first"] == rows(tmp_path)["first"] and rows(tmp_path)["first"][1] == "done"


def test_a_part_of_the_runs_can_be_left_for_another_time(tmp_path):
    """Rows left out are to come; a run whose source has no results is not run and says so."""
    assert study.run(study_config(), tmp_path / "s", "after*")
    assert rows(tmp_path / "s")["after first"][-1] == "not run: it needs first, which has no results"
    assert study.run(study_config(), tmp_path / "s", "first")
    assert [rows(tmp_path / "s")[name][-1] for name in ("first", "after first")] == ["2 seeds", "to come"]
    assert study.run(study_config(), tmp_path / "s", "* first")
    assert rows(tmp_path / "s")["after first"][-1] == "2 seeds"
    with pytest.raises(UserError, match="no run is called 'frist'; the runs: first; lost;"):
        study.run(study_config(), tmp_path / "new", "frist")
    assert not (tmp_path / "new").exists()


def test_a_stop_in_the_last_evaluation_of_a_run_stops_the_study(tmp_path):
    """The run that it hits ends, as little is left of it; the next one does not begin."""
    Grown.evaluations, Grown.stop_at, Grown.trained = 0, 3, []
    assert not study.run(study_config(seeds=(0,)), tmp_path)
    Grown.stop_at = None
    assert rows(tmp_path)["first"][1] == "done" and rows(tmp_path)["after first"] == ["-", "to come"]
    assert Grown.trained == [""]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_moved_study_goes_on_with_the_run_that_was_half_done(tmp_path, monkeypatch):
    Grown.evaluations, Grown.stop_at = 0, 4
    assert not study.run(study_config(seeds=(0,)), tmp_path / "there")
    Grown.stop_at = None
    shutil.move(tmp_path / "there", tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert study.run(study_config(seeds=(0,)), Path("here"))
    assert rows(Path("here"))["after first"] == rows(Path("here"))["first"]


def test_a_moved_study_begins_a_run_anew_that_had_saved_nothing(again):
    there = study.folder(again, "after first", 0)
    text = (there / "config.json").read_text()
    shutil.rmtree(there)
    there.mkdir()
    (there / "config.json").write_text(text)  # kill -9 before the first checkpoint; it names the folder before
    assert study.run(study_config(seeds=(0,)), again)
    assert rows(again)["after first"] == rows(again)["first"]
    assert Grown.trained == [str(study.folder(again, "first", 0))]


def test_where_data_lie_and_devices_are_not_part_of_a_study(again):
    config = study_config()
    config.bases.short.mesh.cpu_devices = 2
    config.bases.short.checkpoint_every = 3
    assert study.run(config, again) and Grown.trained == []


def test_what_results_say_of_themselves_is_in_the_table(again):
    path = study.folder(again, "first", 1) / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "collapsed": True}))
    study.report(study_config(), again, {})
    assert rows(again)["first"][-1] == "2 seeds; collapsed"


def test_a_run_with_another_source_is_refused_and_its_old_results_do_not_count(again):
    first, lost, after, _ = study_config().runs
    twice = ("twice", "still", (("init_from", "@after first"),))
    other = (*after[:2], (("init_from", "@second"), ("log_every", 2)))
    runs = (first, lost, ("second", "still", ()), other, twice)
    assert study.run(study_config(runs=runs, seeds=(0,)), again)
    score, why = rows(again)["after first"]
    assert score == "-" and "belongs to another config (init_from: " in why
    assert saved(again)["after first"] == {} and list(saved(again)["second"]) == ["0"]
    assert rows(again)["twice"] == ["-", "not run: it needs after first, which has no results"]


def test_damaged_results_are_a_row_too(again):
    """Of a run that the command does not even come to."""
    path = study.folder(again, "after first", 1) / "results.json"
    path.write_text('{"test_accuracy": ')
    assert study.run(study_config(), again, "first")
    score, why = rows(again)["after first"]
    assert score.endswith(" %") and "; not run: " in why and "results.json is damaged (line 1" in why
    assert list(saved(again)["after first"]) == ["0"]


def test_what_cannot_be_read_is_a_row_too(tmp_path):
    runs = (("unreadable", "short", (("validation", 0.6),)),)
    assert study.run(study_config(runs=runs, seeds=(0,)), tmp_path)
    score, why = rows(tmp_path)["unreadable"]
    assert score == "-" and why.startswith("not run: [Errno 20] Not a directory: ")


def test_what_was_missing_is_looked_for_again(again):
    runs = tuple((name, base, () if name == "lost" else changes) for name, base, changes in study_config().runs)
    assert study.run(study_config(runs=runs), again)
    assert {row[-1] for row in rows(again).values()} == {"2 seeds"} and len(Grown.trained) == 4


def test_points_are_drawn_over_x(again):
    points = ((0.25, "first"), (1.0, "after first"), (0.5, "lost"))
    assert study.run(study_config(points=points, x="fraction"), again)
    assert (again / "points.png").stat().st_size > 5000 and Grown.trained == []


def test_points_of_a_line_are_drawn_together():
    row = {"run": "a", "seeds": {"0": {"loss": 1.0, "psnr": None}, "1": {"loss": 3.0, "psnr": None}}}
    view = {"runs": [row, row | {"run": "b"}, row | {"run": "c", "seeds": {}}], "columns": ("loss", "psnr")}
    view["points"] = ((0.5, "a", "short"), (1.0, "b", "short"), (0.5, "b"), (1.0, "c", "long"))
    both = pytest.approx((2.0, 2**0.5))
    found = {name: [(x, tuple(value)) for x, *value in line] for name, line in study.points(view).items()}
    assert found == {"short: loss": [(0.5, both), (1.0, both)], "loss": [(0.5, both)]}


def test_a_base_that_changed_is_another_study_s(again):
    config = study_config()
    config.bases.short.optim.lr = 0.2
    with pytest.raises(UserError, match=r"belongs to another config \(bases.short.optim.lr: 0.05 there, 0.2 here"):
        study.run(config, again)


def test_lines_are_averaged_as_far_as_the_shortest_run_goes():
    runs = [[{"step": i, "loss": v} for i, v in enumerate(v)] for v in ([1.0, None, None, 3.0], [3.0, 4.0, None])]
    means = [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 4.0}, {"step": 2, "loss": None}]
    assert study.mean_lines(runs) == means
    assert study.mean_lines([]) == [] == study.mean_lines([runs[0], []])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": (("a", "shrot", ()),)}, "a is a change of 'shrot'; there are"),
        ({"runs": (("a", "short", (("optim.lrr", 0.1),)),)}, "no key optim.lrr"),
        ({"runs": (("a", "short", (("optim.lr", "high"),)),)}, "config.optim.lr='high'"),
        (
            {"runs": (("a", "short", (("init_from", "@b"),)), ("b", "short", ()))},
            "a needs 'b', which does not stand before",
        ),
        ({"runs": (("a", "short", ()), ("a", "short", ()))}, "'a' is there twice"),
        ({"runs": (("a", "short"),)}, "config.runs: ('a', 'short') is not (\"name\", \"base\", "),
        ({"runs": (("a", "short", ("optim.lr", 0.1)),)}, "('optim.lr', 0.1)) is not ("),
        ({"runs": (1,)}, "config.runs: 1 is not ("),
        ({"points": (0.5,)}, "config.points: 0.5 is not (x, "),
        ({"points": ((0, "first"),)}, "with x above 0"),
        ({"seeds": (-1,)}, "config.seeds: -1 is not a whole number from 0"),
        ({"columns": (1,)}, "config.columns: 1 is not the name"),
        ({"curves": (1,)}, "config.curves: 1 is not the name"),
        ({"curves": ("b",)}, "name 'b', which is no run"),
        ({"seeds": ()}, "needs config.runs and config.seeds"),
    ],
)
def test_a_study_that_contradicts_itself_is_one_line_and_writes_nothing(tmp_path, changes, message):
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        study.run(study_config(**changes), tmp_path / "study")
    assert message in str(error.value)
    assert not (tmp_path / "study").exists()
