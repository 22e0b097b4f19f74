"""Pictures are written, small, and show what the numbers say."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxhw import plots

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def rows(seed=0, split="val_", epochs=30):
    rng = np.random.default_rng(seed)
    lines = []
    for step in range(10, 100 * epochs + 1, 10):
        at = {"step": step, "time": step * 0.2, "epoch": step / 100}
        accuracy = 0.6 * (1 - np.exp(-step / 800))
        lines.append(at | {"loss": 3 - 3 * accuracy + rng.normal() / 20, "accuracy": accuracy, "lr": 1e-3})
        if step % 100 == 0 and split:
            lines.append(at | {split + "loss": 3 - 2.5 * accuracy, split + "accuracy": 0.9 * accuracy})
    return lines


def read(path):
    """A picture's pixels; it is a PNG of under 300 KB that is not blank."""
    assert path.stat().st_size < 300_000
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.std() > 5
    return pixels


def has(pixels, colour):
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(pixels.astype(int) - rgb).max(-1) < 3).any())


def write(path, lines, tail=""):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    return path


def test_curves_show_each_split_in_its_colour(tmp_path):
    plots.curves(write(tmp_path / "metrics.jsonl", rows(), tail='{"step": 31'), tmp_path / "curves.png")
    pixels = read(tmp_path / "curves.png")
    left, right = np.array_split(pixels, 2, axis=1)
    for panel in (left, right):
        assert has(panel, plots.COLOURS[0]) and has(panel, plots.COLOURS[1]) and not has(panel, plots.COLOURS[2])


@pytest.mark.parametrize(
    "lines",
    [
        rows(split="", epochs=1)[:1],  # a single point
        [
            {"step": 1, "time": 0.1, "loss": None},
            {"step": 2, "time": 0.2, "loss": 3.0},
        ],  # a NaN, no epochs, no accuracy
    ],
)
def test_curves_of_very_short_runs(tmp_path, lines):
    plots.curves(write(tmp_path / "metrics.jsonl", lines), tmp_path / "curves.png")
    read(tmp_path / "curves.png")


def test_curves_show_scores_of_all_held_out_pictures(tmp_path):
    lines = [{"step": i, "time": i, "epoch": i / 2, "psnr": 10.0 + i, "test_psnr_all": 9.0 + i} for i in (1, 2)]
    plots.curves(write(tmp_path / "metrics.jsonl", lines), tmp_path / "curves.png", ("psnr",))
    assert has(read(tmp_path / "curves.png"), plots.SPLITS["test_"][1])


def test_curves_without_accuracy_or_loss_draw_nothing(tmp_path):
    plots.curves(write(tmp_path / "metrics.jsonl", [{"step": 1, "time": 0.1, "lr": 0.1}]), tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_points_are_averaged_over_stretches():
    lines = [{"step": i, "loss": float(i)} for i in range(4 * plots.MOST_POINTS)]
    x, y = plots._points(lines, "loss", "step")
    assert len(x) == plots.MOST_POINTS
    np.testing.assert_allclose(x[:3], [1.5, 5.5, 9.5])
    np.testing.assert_allclose(x, y)


def test_compare_draws_every_run_over_epochs_and_time(tmp_path):
    written = plots.compare({"resnet": rows(0), "vit": rows(1, "test_"), "ssl": rows(2, "")}, tmp_path / "out")
    assert [path.name for path in written] == ["accuracy.png", "accuracy_time.png", "loss.png", "loss_time.png"]
    for path in written:
        pixels = read(path)
        assert has(pixels, plots.COLOURS[0]) and has(pixels, plots.COLOURS[1])


def test_compare_says_which_split_a_line_is():
    lines, title = plots._compared({"a": rows(0), "b": rows(1, "test_"), "c": rows(2, "")}, "accuracy", "epoch")
    assert [label for _, label, *_ in lines if label] == ["a (validation)", "b (test)", "c (training)"]
    assert title == "accuracy: validation or test (solid), training (dashed)"
    lines, title = plots._compared({"a": rows(0), "b": rows(1)}, "loss", "time")
    assert [label for _, label, *_ in lines if label] == ["a", "b"]
    assert title == "loss: validation (solid), training (dashed)"


@pytest.mark.parametrize("c", [2, 10, 100, 200])
def test_confusion_matrix(tmp_path, c):
    matrix = np.eye(c, dtype=int) * 9
    matrix[:, 0] += 1
    matrix[-1] = 0  # a class without examples
    plots.confusion_matrix(matrix, [f"{NAMES[i % 10]} {i}" for i in range(c)], tmp_path / "confusion.png")
    pixels = read(tmp_path / "confusion.png")
    assert 400 < pixels.shape[1] < 2000


def test_confusion_matrix_rows_are_the_true_classes(tmp_path):
    """All of class 0 is taken for class 1: the dark cell is in the first row, right of the diagonal."""
    plots.confusion_matrix([[0, 5], [0, 0]], ["a", "b"], tmp_path / "confusion.png")
    dark = np.argwhere(np.abs(read(tmp_path / "confusion.png").astype(int) - [8, 48, 107]).max(-1) < 3)
    dark = dark[dark[:, 1] < np.percentile(dark[:, 1], 90)]  # without the colour bar
    pale = np.argwhere(np.abs(read(tmp_path / "confusion.png").astype(int) - [247, 251, 255]).max(-1) < 3)
    assert dark[:, 0].mean() < pale[:, 0].mean() and dark[:, 1].mean() > pale[:, 1].mean()


def test_sweep(tmp_path):
    rng = np.random.default_rng(0)
    trials = [
        {"lr": 10 ** rng.uniform(-5, -2), "wd": float(rng.choice([0, 1e-4])), "name": "adam", "value": rng.uniform()}
        for _ in range(9)
    ]
    plots.sweep([*trials, {"lr": 0.1, "value": None}], ["lr", "wd", "name"], "val_accuracy", tmp_path / "sweep.png")
    read(tmp_path / "sweep.png")
    plots.sweep([], ["lr"], "val_accuracy", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_curves_of_a_pre_training_run(tmp_path):
    lines = [
        {"step": i, "epoch": i / 2, "time": 9.0 * i, "loss": 3.0 - i / 9, "val_knn_accuracy": i / 9}
        for i in range(1, 6)
    ]
    names = ("loss", "knn_accuracy", "uniformity")
    plots.curves(write(tmp_path / "metrics.jsonl", lines), tmp_path / "curves.png", names)
    assert has(read(tmp_path / "curves.png"), plots.COLOURS[1])
    wide = read(tmp_path / "curves.png").shape
    lines = [{**line, "alignment": 0.1, "uniformity": -1.0} for line in lines]
    plots.curves(write(tmp_path / "metrics.jsonl", lines), tmp_path / "curves.png", (*names, "alignment"))
    assert read(tmp_path / "curves.png").shape == (2 * wide[0], wide[1], *wide[2:])  # four panels: two by two
    written = plots.compare({"simclr": lines, "byol": lines}, tmp_path)
    assert [path.name for path in written][:2] == ["knn_accuracy.png", "knn_accuracy_time.png"]
