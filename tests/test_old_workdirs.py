"""Workdirs of an older revision, made by tests/golden/workdirs.py there: today's commands open them."""

import json
import tarfile

import mediapy
import numpy as np
import pytest

from jaxhw import main
from jaxhw import mesh as meshes
from jaxhw.__main__ import main as command
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.task import Nerf
from tests.golden import FOLDER
from tests.golden.workdirs import RUNS, SMALL


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(FOLDER / "workdirs_3633523.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


def test_a_classifier_s_scores_are_those_of_its_run(old, tmp_path, capsys):
    assert command(["eval", f"--workdir={old / 'digits'}", f"--out={tmp_path}"]) == 0
    told = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test_"))
    assert float(told["test_accuracy"]) == pytest.approx(results(old / "digits")["test_accuracy"], abs=1e-4)
    assert float(told["test_loss"]) == pytest.approx(results(old / "digits")["test_loss"], abs=1e-4)


def test_a_scene_is_rendered_as_its_run_scored_it(old):
    """A fine grid, by its held-out pictures; the types of its variables are found in its nested dicts."""
    opened, mesh = Run.open(old / "demo", meshes.make_mesh(1)), meshes.make_mesh(1)
    nerf = Nerf(opened.config, mesh)
    for name, score in results(old / "demo")["test_scores"].items():
        frame = nerf.scene.names.index(name)
        error = ((nerf.render(opened.variables, frame).colour - nerf.truth(frame)) ** 2).mean()
        assert -10 * np.log10(error) == pytest.approx(score["psnr"], abs=1e-3)


@pytest.mark.parametrize("name", ["demo", "coarse"])
def test_scenes_are_filmed_in_either_stage(old, tmp_path, name):
    assert command(["render", f"--workdir={old / name}", f"--out={tmp_path}", "--frames=2"]) == 0
    assert mediapy.read_video(tmp_path / "orbit.mp4").shape == (2, 16, 16, 3)


def test_the_same_command_finds_a_finished_run_finished(old, capsys):
    for name in ("digits", "demo"):
        assert main.main([f"--workdir={old / name}", *RUNS[name], *SMALL]) == 0
        assert str(old / name / "results.json") in capsys.readouterr().out


def test_a_run_that_was_stopped_is_refused_in_one_line_and_stays(old, capsys):
    """Its optimiser counted the steps of all parameters together; now each has a count of its own."""
    assert main.main([f"--workdir={old / 'coarse'}", *RUNS["coarse"], *SMALL]) == 2
    told = capsys.readouterr().err.splitlines()
    assert "step_10 is no checkpoint of this task and optimiser, or an older version's" in told[-1]
    assert len(told) == 1 and (old / "coarse" / "checkpoints" / "step_10").is_dir()


def test_a_run_starts_from_an_older_one_s_features(old, tmp_path, capsys):
    flags = ["--config=configs/finetune.py", "--config.dataset=digits", "--config.image_size=16", "--config.steps=2"]
    flags += ["--config.model.width=2", "--config.batch_size=32", "--config.validation=0.1", "--config.epochs=0.0"]
    assert main.main([*flags, f"--workdir={tmp_path}", f"--config.init_from={old / 'simclr'}"]) == 0
    assert f"init_from {old / 'simclr'}: " in capsys.readouterr().out
