"""Linear probes are evaluated and predicted with, as classifiers are."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxhw import mesh as meshes
from jaxhw import train
from jaxhw.__main__ import main
from jaxhw.checkpoint import restore_variables
from jaxhw.errors import UserError
from jaxhw.vision.tasks.linear import Linear
from jaxhw.vision.tasks.trained import open_run
from tests.vision.tasks.test_linear import config_of


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """A probe on a network as it was drawn: its features tell some digits apart."""
    workdir, mesh = tmp_path_factory.mktemp("probe") / "run", meshes.make_mesh(1)
    config = config_of(steps=60, normalise="half")
    return workdir, train.run(Linear(config, mesh), config, mesh, workdir)


def test_the_scores_are_those_of_the_run(probe, capsys, tmp_path):
    workdir, results = probe
    assert main(["eval", f"--workdir={workdir}", f"--out={tmp_path}"]) == 0
    told = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test_"))
    assert float(told["test_accuracy"]) == pytest.approx(results["test_accuracy"], abs=1e-4)
    assert results["test_accuracy"] > 0.3 and int(told["test_images"]) == results["test_images"]


def test_the_chosen_head_is_what_predicts(probe, capsys, tmp_path):
    workdir, results = probe
    _, opened = open_run(workdir)
    task = Linear(config_of(), meshes.make_mesh(1))
    assert task.grid[opened.head].tolist() == [np.float32(results["rate"]), np.float32(results["l2"])]
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    assert main(["predict", f"--workdir={workdir}", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_a_probe_that_is_not_done_is_one_line(probe, tmp_path):
    for name in ("config.json", "labels.json"):
        (tmp_path / name).write_bytes((probe[0] / name).read_bytes())
    with pytest.raises(UserError, match=r"has no results.json: the command that trains the probe writes it"):
        open_run(tmp_path)


def test_logits_are_the_head_s_on_standardised_features(probe):
    workdir, _ = probe
    _, opened = open_run(workdir)
    features = np.random.default_rng(0).normal(size=(3, len(opened.mean))).astype(np.float32)
    opened.encoder.features = lambda variables, images: features
    variables = restore_variables(workdir, meshes.replicated(meshes.make_mesh(1)))
    head = jax.tree.map(lambda a: np.asarray(a)[opened.head], variables.params["head"])
    wanted = (features - opened.mean) / opened.deviation @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(opened.logits(variables, None), wanted, rtol=1e-5)
