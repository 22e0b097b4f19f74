"""Two processes give what one with two devices gives: pre-training, then what starts from it."""

import json

import pytest

from tests import processes

RUN = """
from pathlib import Path
from jaxhw import job, joining, mesh as meshes, task, train
from jaxhw.vision.tasks import classify, linear, pretrain
with joining.joined(job.find()):
    mesh, there = meshes.make_mesh(), Path({workdir!r})
    kinds = (pretrain.default_config("byol", "vit"), linear.default_config("vit"), classify.default_config("vit"))
    for config in kinds:
        config.update({{"batch_size": 64, "steps": 6, "eval_every": 3, "checkpoint_every": 3, "normalise": "none"}})
        config.model.update({{"patch": 4, "width": 16, "depth": 1, "heads": 2, "head_dim": 8, "mlp": 16}})
        if config.task == "pretrain":
            config.update({{"knn_k": 5, "method": {{"hidden": 16, "dim": 8}}}})
        else:
            config.init_from = str(there / "pretrain")
        train.run(task.make(config, mesh), config, mesh, there / config.task)
"""


@pytest.mark.slow
def test_two_processes_pretrain_probe_and_fine_tune_as_one_does(tmp_path):
    processes.two_and_one(*(["-c", RUN.format(workdir=str(tmp_path / name))] for name in ("two", "one")))

    def both(task, key):
        return [json.loads((tmp_path / name / task / "results.json").read_text())[key] for name in ("two", "one")]

    for task, key, slack in (
        ("pretrain", "test_knn_accuracy", 0.006),  # two of 359 images
        ("pretrain", "val_feature_std", 1e-4),
        ("linear", "test_knn_accuracy", 0.006),
        ("linear", "test_accuracy", 0.006),
        ("classify", "test_accuracy", 0.006),
        ("classify", "test_loss", 1e-4),
    ):
        two, one = both(task, key)
        assert two == pytest.approx(one, abs=slack), (task, key)
