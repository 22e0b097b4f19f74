"""A field of its own takes one file: it trains, is rendered, resumes bit for bit and is filmed."""

import os
import signal

import jax
import mediapy
import numpy as np
import pytest

from jaxhw import checkpoint, metrics, train
from jaxhw import mesh as meshes
from jaxhw.__main__ import main
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.task import Nerf, default_config
from tests.golden import FOLDER


class Stopping(train.Observer):
    """Sends SIGTERM after step 7."""

    def after_step(self, step, snapshot):
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)


def run(workdir, *observers):
    config = default_config("tests.nerf.fields.fog:Fog")
    config.update({"scene": "demo", "downscale": 16, "batch_size": 128, "steps": 20, "log_every": 5, "eval_every": 10})
    config.update({"checkpoint_every": 100, "lpips": "none"})
    config.optim.lr, config.model.width = 1e-2, 8
    mesh = meshes.make_mesh(1)
    return train.run(Nerf(config.lock(), mesh), config, mesh, workdir, observers)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("fog")
    return workdir, run(workdir)


def test_it_takes_less_than_sixty_lines():
    lines = (FOLDER.parent / "nerf" / "fields" / "fog.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) < 60


def test_it_trains_and_is_rendered(whole):
    workdir, results = whole
    lines = [line for line in metrics.read(workdir / "metrics.jsonl") if "loss" in line]
    assert lines[-1]["loss"] < lines[0]["loss"] and results["test_images"] == 12
    opened = Run.open(workdir, meshes.make_mesh(8))
    picture = opened.render(opened.scene.cameras[0])
    assert picture.colour.shape == (16, 16, 3) and np.isfinite(picture.depth).all()


def test_it_resumes_bit_for_bit(whole, tmp_path):
    assert run(tmp_path, Stopping()) == {}
    assert run(tmp_path)["test_psnr"] == whole[1]["test_psnr"]
    states = [checkpoint.restore_variables(w, meshes.replicated(meshes.make_mesh(1))) for w in (tmp_path, whole[0])]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_it_is_filmed(whole, tmp_path):
    assert main(["render", f"--workdir={whole[0]}", f"--out={tmp_path}", "--frames=2"]) == 0
    assert mediapy.read_video(tmp_path / "orbit.mp4").shape == (2, 16, 16, 3)
