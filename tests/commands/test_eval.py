"""`jaxhw eval` on workdirs without their training: other devices, other pictures, other places."""

import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from jaxhw import __main__ as cli
from jaxhw import mesh as meshes
from jaxhw.vision.tasks.classify import Classify, default_config
from tests.vision import runs


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run on the digits, of batches that eight devices do not divide."""
    config = default_config("vit")
    config.update({"steps": 1, "batch_size": 60})
    config.model.update({"patch": 4, "width": 8, "depth": 1, "heads": 1, "head_dim": 8, "mlp": 8})
    task = Classify(config, meshes.make_mesh(1))
    there = runs.leave(tmp_path_factory.mktemp("eval") / "run", config, task.init(jax.random.key(0)))
    task.describe(there)
    return there


def call(capsys, *arguments):
    code = cli.main(["eval", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_batch_is_made_to_fit_the_devices(workdir, capsys):
    code, printed, errors = call(capsys, f"--workdir={workdir}")
    assert code == 0 and re.search(r"test_images +359\n", printed), errors
    assert len(json.loads((workdir / "test_classes.json").read_text())) == 10


def test_another_set_is_brought_to_the_run_s_size_and_goes_elsewhere(workdir, capsys, tmp_path):
    for name in "0123456789":
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(np.full((20, 12), 25 * i, np.uint8)).save(tmp_path / "set" / name / f"{i}.png")
    other = f"--dataset=folder:{tmp_path / 'set'}"
    code, _, errors = call(capsys, f"--workdir={workdir}", other)
    assert code == 2 and errors.startswith("error: --dataset needs --out=DIR")
    code, printed, errors = call(capsys, f"--workdir={workdir}", other, f"--out={tmp_path / 'out'}")
    assert code == 0 and re.search(r"test_images +10\n", printed), errors
    assert (tmp_path / "out" / "test_confusion.png").exists()


def test_a_home_folder_is_what_it_is_in_training(workdir, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(workdir.parent))
    assert call(capsys, f"--workdir=~/{workdir.name}")[0] == 0


def test_out_must_be_a_folder(workdir, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, errors = call(capsys, f"--workdir={workdir}", f"--out={tmp_path / 'file'}")
    assert code == 2 and "choose another --out" in errors and len(errors.splitlines()) == 1
