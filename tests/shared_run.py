"""A few steps of one kind of run: python -m tests.shared_run KIND WORKDIR, in one process or as one of several."""

import sys
from pathlib import Path

from ml_collections import ConfigDict

from jaxhw import errors, job, joining, task, train
from jaxhw import mesh as meshes
from jaxhw.vision.tasks import classify, pretrain
from tests.nerf import test_nerfacto_run, test_task

VIT = {"patch": 4, "width": 16, "depth": 1, "heads": 2, "head_dim": 8, "mlp": 16}
IMAGES = {"dataset": "digits", "batch_size": 64, "steps": 6, "normalise": "none"}
IMAGES |= {"log_every": 2, "eval_every": 3, "checkpoint_every": 3}


def config_of(kind: str) -> ConfigDict:
    """The config of a run of seconds."""
    if kind == "dvgo":
        return test_task.tiny(steps=24)  # in both stages
    if kind == "nerfacto":
        return test_nerfacto_run.tiny(steps=12)
    config = classify.default_config("vit") if kind == "classify" else pretrain.default_config("simclr", "vit")
    config.update(IMAGES)
    config.model.update(VIT)
    if kind == "simclr":
        config.update({"knn_k": 5, "method": {"hidden": 16, "dim": 8}})
        # Batch norm makes some gradients zero but for rounding, of which Adam would make whole steps.
        config.optim.update({"name": "sgd", "lr": 0.05})
    return config.lock()


def main() -> None:
    kind, workdir = sys.argv[1:]
    with joining.joined(job.find()):
        config, mesh = config_of(kind), meshes.make_mesh()
        train.run(task.make(config, mesh), config, mesh, Path(workdir))


if __name__ == "__main__":
    sys.exit(errors.exit_code(main))
