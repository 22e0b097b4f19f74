"""Classes named as no designer of markup, fonts and encodings thought of: the run ends, and so do predictions."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from jaxhw import __main__ as cli
from jaxhw import main

NAMES = ("100$_bill_$", "a$_$b", "a$b$c", "\u732b", os.fsdecode(b"caf\xe9"), "line\nbreak", r"a\$b")
SMALL = ("steps=2", "batch_size=8", "epochs=0.0", "image_size=8", "validation=0.0", "optim.warmup_steps=0")
MODEL = ("width=8", "depth=1", "heads=2", "mlp=8", "patch=4", "head_dim=4")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    for i, name in enumerate(NAMES):
        (folder / "set" / name).mkdir(parents=True)
        for j in range(6):
            Image.fromarray(np.full((8, 8), 30 * i + j, np.uint8)).save(folder / "set" / name / f"{j}.png")
    flags = [f"--config.{change}" for change in (*SMALL, *(f"model.{change}" for change in MODEL))]
    flags += [f"--config.dataset=folder:{folder / 'set'}", f"--workdir={folder / 'run'}"]
    return folder, ["--config=configs/vit.py:digits", *flags]


def test_a_run_ends_with_its_numbers_and_its_pictures(trained, capsys):
    folder, flags = trained
    assert main.main(flags) == 0
    errors = capsys.readouterr().err
    assert "cannot be drawn" not in errors and "Glyph" not in errors and "Traceback" not in errors
    assert (folder / "run" / "test_confusion.png").stat().st_size > 5000
    assert set(json.loads((folder / "run" / "test_classes.json").read_text())) == set(NAMES)
    assert json.loads((folder / "run" / "results.json").read_text())["test_images"] >= len(NAMES)


def test_predictions_are_printed_to_a_terminal_that_knows_ascii_only(trained, capfd, monkeypatch):
    """In a process of its own: the encoding is the stream's."""
    import subprocess
    import sys

    folder, flags = trained
    assert main.main(flags) == 0
    picture = folder / "set" / NAMES[3] / "0.png"
    command = [sys.executable, "-m", "jaxhw", "predict", f"--workdir={folder / 'run'}", str(picture)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "XLA_FLAGS": ""}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=300)
    assert done.returncode == 0 and len(done.stdout.decode("ascii").splitlines()) >= 6, done.stderr
    assert b"\\u732b" in done.stdout


def test_numbers_are_written_where_no_picture_can_be(trained, capsys, tmp_path):
    """Of the scores; eval ends with 0 and one line that names the picture."""
    folder, flags = trained
    assert main.main(flags) == 0
    capsys.readouterr()
    (tmp_path / "test_confusion.png").mkdir()
    assert cli.main(["eval", f"--workdir={folder / 'run'}", f"--out={tmp_path}"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(told) == 1 and f"the picture {tmp_path / 'test_confusion.png'} cannot be drawn: " in told[0]
    assert (tmp_path / "test_classes.json").exists()
