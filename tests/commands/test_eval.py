"""`jaxhw eval` on workdirs without their training: other devices, other pictures, other places."""

import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from jaxhw import __main__ as cli
from jaxhw import mesh as meshes
from jaxhw.vision.tasks import classify
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


def write_set(folder, names, count=3):
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8), 25 * i, np.uint8)).save(folder / name / f"{i}.png")
    return folder


def test_only_the_split_that_is_scored_is_read(workdir, capsys, tmp_path):
    """A damaged training picture, or a training set of a few images, is no business of the test's."""
    names = [str(digit) for digit in range(10)]
    write_set(tmp_path / "set" / "train", names, 1)
    write_set(tmp_path / "set" / "test", names[:4])
    (tmp_path / "set" / "train" / "3" / "0.png").write_bytes(b"damaged")
    other = [f"--dataset=folder:{tmp_path / 'set'}", f"--out={tmp_path / 'out'}"]
    code, printed, errors = call(capsys, f"--workdir={workdir}", *other)
    assert code == 0 and re.search(r"test_images +12\n", printed), errors


def test_all_images_of_a_set_that_is_not_cut(workdir, capsys, tmp_path):
    """One image a class is too few to be cut, and enough to be scored."""
    folder = write_set(tmp_path / "set", ["1", "7"], 1)
    code, printed, _ = call(
        capsys, f"--workdir={workdir}", f"--dataset=folder:{folder}", f"--out={tmp_path}", "--split=all"
    )
    assert code == 0 and re.search(r"all_images +2\n", printed) and (tmp_path / "all_classes.json").exists()


def test_classes_that_the_run_does_not_know_are_named(workdir, capsys, tmp_path):
    folder = write_set(tmp_path / "set", ["1", "cat", "dog"])
    code, _, errors = call(
        capsys, f"--workdir={workdir}", f"--dataset=folder:{folder}", f"--out={tmp_path}", "--split=all"
    )
    assert code == 2 and errors.splitlines()[-1] == (
        f"error: folder:{folder} has classes that the run does not know: cat, dog (2 in all); the run's classes: "
        "0, 1, 2, 3, 4, ... (10)"
    )


def test_the_numbers_are_printed_where_nothing_can_be_written(workdir, capsys, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(classify, "save_scores", refuse)
    code, printed, errors = call(capsys, f"--workdir={workdir}")
    assert code == 0 and re.search(r"test_images +359\n", printed) and "written" not in printed
    assert f"nothing written to {workdir}: Permission denied; choose another folder with --out" in errors
