"""`jaxhw compare` on finished and running workdirs and on studies."""

import json

from jaxhw import __main__ as cli
from jaxhw import plots, study

LINES = [
    {"step": 50, "time": 30.0, "epoch": 0.5, "loss": 2.0, "accuracy": 0.3},
    {"step": 50, "time": 31.0, "epoch": 0.5, "val_loss": 1.9, "val_accuracy": 0.41239},
    {"step": 100, "time": 90.0, "epoch": 1.0, "loss": 1.5, "accuracy": 0.5},
    {"step": 100, "time": 91.0, "epoch": 1.0, "val_loss": 1.6, "val_accuracy": 0.40},
]


def workdir(folder, lines=LINES, results=None, seed=3):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"seed": seed, "steps": 200, "dataset": "tfds:cifar100"}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if results:
        (folder / "results.json").write_text(json.dumps(results))
    return str(folder)


def compare(capsys, *arguments):
    code = cli.main(["compare", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def cells(table):
    """The table's rows as column -> cell."""
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_finished_and_a_running_run(tmp_path, capsys):
    results = {
        "parameters": 11_139_844,
        "steps": 100,
        "epochs": 1.0,
        "seed": 5,
        "seconds": 5400.0,
        "test_accuracy": 0.6553,
    }
    results |= {"dataset": "tfds:cifar100", "val_accuracy": 0.4}
    done = workdir(tmp_path / "vit", results=results)
    running = workdir(tmp_path / "resnet", lines=LINES[:3])
    code, out, _ = compare(capsys, done, running, f"--out={tmp_path / 'out'}")
    assert code == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in out
    first, second = cells(table)
    assert first == {
        "run": "vit",
        "dataset": "tfds:cifar100",
        "parameters": "11,139,844",
        "validation, best": "41.24%",
        "validation, final": "40.00%",
        "test, final": "65.53%",
        "time": "1 h 30 min",
        "steps": "100",
        "epochs": "1",
        "seed": "5",
        "state": "done",
    }
    assert second["state"] == "running" and second["parameters"] == "-" and second["test, final"] == "-"
    assert second["seed"] == "3" and second["time"] == "1.5 min" and second["validation, final"] == "41.24%"
    for name in ("accuracy", "loss", "accuracy_time", "loss_time"):
        assert (tmp_path / "out" / f"{name}.png").exists()


def test_what_results_say_of_themselves_is_in_the_table(tmp_path, capsys):
    folder = workdir(tmp_path / "byol", results={"collapsed": True, "seed": 0})
    assert compare(capsys, folder, f"--out={tmp_path / 'out'}")[0] == 0
    assert cells((tmp_path / "out" / "table.md").read_text())[0]["state"] == "done; collapsed"


def test_what_is_no_number_is_not_in_the_table(tmp_path, capsys):
    """Of results that somebody changed, or that are not known."""
    for name, accuracy in (("text", "high"), ("unknown", None), ("huge", 1e300), ("list", [1])):
        folder = workdir(tmp_path / name, results={"seed": 0, "test_accuracy": accuracy})
        code, _, err = compare(capsys, folder, f"--out={tmp_path / 'out'}")
        assert code == 0 and not err
        assert "test, final" not in cells((tmp_path / "out" / "table.md").read_text())[0]


def test_a_damaged_file_is_one_line(tmp_path, capsys):
    for name in ("config.json", "results.json"):
        folder = workdir(tmp_path / name, results={"seed": 0})
        (tmp_path / name / name).write_text('{"seed": "0"}')
        code, _, err = compare(capsys, folder, f"--out={tmp_path / 'out'}")
        assert code == 2 and len(err.splitlines()) == 1 and "is damaged (seed must be a whole number)" in err


def test_out_must_be_a_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, err = compare(capsys, workdir(tmp_path / "vit"), f"--out={tmp_path / 'file'}")
    assert code == 2 and "choose another --out" in err and len(err.splitlines()) == 1


def test_runs_of_the_same_name_are_told_apart(tmp_path, capsys):
    folders = [workdir(tmp_path / day / "vit") for day in ("monday", "tuesday")]
    assert compare(capsys, *folders, folders[0], f"--out={tmp_path / 'out'}")[0] == 0
    rows = cells((tmp_path / "out" / "table.md").read_text())
    assert [row["run"] for row in rows] == ["monday/vit", "tuesday/vit"]


def test_a_folder_without_metrics_is_refused_before_anything_is_written(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    code, _, err = compare(capsys, workdir(tmp_path / "vit"), str(tmp_path / "empty"), f"--out={tmp_path / 'out'}")
    assert code == 2 and len(err.splitlines()) == 1
    assert "empty holds no numbers to compare" in err
    assert not (tmp_path / "out").exists()


def test_pre_training_runs_are_compared_by_knn(tmp_path, capsys):
    lines = [
        {"step": 9, "time": 3.0, "epoch": 1.0, "loss": 4.0},
        {"step": 9, "time": 4.0, "epoch": 1.0, "val_knn_accuracy": 0.31},
    ]
    done = workdir(tmp_path / "simclr", lines, {"val_knn_accuracy": 0.33, "test_knn_accuracy": 0.3512})
    code, out, _ = compare(capsys, done, workdir(tmp_path / "byol", lines), f"--out={tmp_path / 'out'}")
    first, second = cells((tmp_path / "out" / "table.md").read_text())
    assert code == 0 and "knn_accuracy.png" in out
    assert (first["validation, kNN"], first["test, kNN"]) == ("33.00%", "35.12%")
    assert (second["validation, kNN"], second["test, kNN"]) == ("31.00%", "-")
    assert "test, final" not in first


def study_of_parts(folder, accuracies, **view):
    """A study with a probe for each part of a data set; ``accuracies``: part -> that of each seed that is done."""
    folder.mkdir()
    config = study.default_config({})
    runs = {f"probe of {part}": scores for part, scores in accuracies.items()}
    config.update({"runs": tuple((name, "linear", ()) for name in runs), "seeds": (0, 1), **view})
    for name, scores in runs.items():
        for seed, score in enumerate(scores):
            lines = [{**line, "val_accuracy": score} if "val_accuracy" in line else line for line in LINES]
            facts = {"test_accuracy": score, "seconds": 60.0, "seed": seed, "steps": 100}
            workdir(study.folder(folder, name, seed), lines, facts, seed)
    study.report(config, folder, {("probe of half", 1): "not run: no data"})
    return str(folder)


def test_a_study_s_runs_are_averaged_over_their_seeds(tmp_path, capsys, monkeypatch):
    drawn = {}
    monkeypatch.setattr(plots, "compare", lambda lines, out: out.mkdir(exist_ok=True) or drawn.update(lines) or [])
    view = {"points": ((0.5, "probe of half"), (1.0, "probe of all")), "x": "part", "curves": ("probe of all",)}
    parts = study_of_parts(tmp_path / "parts", {"half": [0.25], "all": [0.5, 0.75]}, **view)
    code, out, _ = compare(capsys, parts, f"--out={tmp_path / 'out'}")
    half, whole = cells((tmp_path / "out" / "table.md").read_text())
    assert code == 0 and "points.png" in out
    assert (half["run"], half["test, final"]) == ("probe of half", "25.00%")
    assert half["state"] == "1 of 2 seeds; not run: no data"
    assert (whole["test, final"], whole["seed"], whole["state"]) == ("62.50% ± 17.68%", "0, 1", "2 seeds")
    assert (whole["time"], whole["steps"]) == ("60 s", "100")
    assert list(drawn) == ["probe of all"]
    assert [line["val_accuracy"] for line in drawn["probe of all"] if "val_accuracy" in line] == [0.625, 0.625]
    assert (tmp_path / "out" / "points.png").read_bytes() == (tmp_path / "parts" / "points.png").read_bytes()


def test_studies_and_runs_are_drawn_over_each_other(tmp_path, capsys, monkeypatch):
    """The curves that a study names are its lines, all that it has where it has no points; all its runs are rows."""
    points = {}
    monkeypatch.setattr(plots, "points", lambda series, x, path: points.update({x: series}))
    view = {"points": ((1.0, "probe of all"),), "x": "part"}
    folders = [study_of_parts(tmp_path / name, {"all": [score]}, **view) for name, score in (("a", 0.5), ("b", 0.6))]
    folders.append(study_of_parts(tmp_path / "c", {"half": [0.4], "all": [0.5]}, curves=("probe of all",)))
    folders.append(study_of_parts(tmp_path / "d", {"all": [0.5]}))
    drawn = {}
    monkeypatch.setattr(plots, "compare", lambda lines, out: out.mkdir(exist_ok=True) or drawn.update(lines) or [])
    code, *_ = compare(capsys, *folders, workdir(tmp_path / "vit"), f"--out={tmp_path / 'out'}")
    rows = cells((tmp_path / "out" / "table.md").read_text())
    names = ["a: probe of all", "b: probe of all", "c: probe of half", "c: probe of all", "d: probe of all", "vit"]
    assert code == 0 and [row["run"] for row in rows] == names
    assert list(drawn) == names[3:]
    assert points["part"] == {f"{s}: test accuracy": [(1.0, a, 0.0)] for s, a in (("a", 0.5), ("b", 0.6))}


def test_a_study_without_results_is_refused(tmp_path, capsys):
    code, _, err = compare(capsys, study_of_parts(tmp_path / "parts", {"all": []}), f"--out={tmp_path / 'out'}")
    assert code == 2 and "parts holds no numbers to compare" in err and not (tmp_path / "out").exists()
