"""`jaxhw compare` on finished and running workdirs."""

import json

import pytest

from jaxhw import __main__ as cli

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


@pytest.mark.parametrize("seconds, text", [(5.25, "5.2 s"), (90, "1.5 min"), (3600 * 25 + 60, "25 h 01 min")])
def test_duration(seconds, text):
    from jaxhw.commands.compare import _duration

    assert _duration(seconds) == text


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
