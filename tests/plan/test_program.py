"""Programs lowered for a mesh of CPUs, as they are for one of TPUs: their operations counted by hand, their shapes."""

import jax
import jax.numpy as jnp
import pytest

from jaxhw import config as configs
from jaxhw import cost, task
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.plan import program
from jaxhw.program import shapes
from jaxhw.vision.models import registry

SMALL = ["--config.model.width=8", "--config.batch_size=16", "--config.image_size=32"]
ARGV = {
    "classify": ["--config=configs/resnet18.py", *SMALL],
    "pretrain": ["--config=configs/simclr.py", *SMALL],
    "linear": ["--config=configs/linear.py", *SMALL],
    "nerf": ["--config=configs/dvgo.py:lego", "--config.model.coarse.voxels=4096", "--config.batch_size=64"],
}
SIZES = task.Sizes(images=64, classes=4, size=32)


def blank(*argv, sizes=SIZES):
    config, _ = configs.parse(argv, "task")
    return task.find(config.task).without_data(config, sizes)


def test_a_step_of_the_vit_has_three_times_the_products_of_its_layers():
    """Forward, the gradient of the input and that of the weights; nothing of a matrix product is computed again."""
    config = blank("--config=configs/vit.py:digits", sizes=task.Sizes(64, 10, 8))
    lowered = program.lower(config, meshes.make_mesh(4), "train")
    model = registry.create(config.model, 10, 8)
    images = jnp.zeros((64, 8, 8, 3))
    forward = cost.flops(lambda v: model.apply(v, images, train=False), registry.shapes(model, 8), platform="tpu")
    width, tokens, depth, inner, mlp = 64, 17, 4, 64, 128
    block = tokens * width * (4 * inner + 2 * mlp) + 2 * tokens * tokens * inner
    spared = (tokens - 1) * width * (2 * inner + 2 * mlp) + 2 * (tokens - 1) * tokens * inner
    by_hand = 2 * 64 * (depth * block - spared + 16 * 12 * width + width * 10)
    assert forward == pytest.approx(by_hand, rel=1e-6)
    assert sum(operation.flops for operation in lowered.operations) == pytest.approx(3 * by_hand, rel=0.01)
    assert lowered.examples == 64 and lowered.calls == 60  # epochs of one step


@pytest.mark.parametrize("kind", ARGV)
def test_every_program_of_every_task_can_be_lowered(kind):
    config, mesh = blank(*ARGV[kind]), meshes.make_mesh(4)
    for name in ("train", "render" if kind == "nerf" else "eval"):
        lowered = program.lower(config, mesh, name)
        assert "mhlo.num_partitions = 4" in lowered.lowered.as_text()
        assert lowered.examples == (32 * 32 if name == "render" else config.batch_size)


@pytest.mark.parametrize("kind", ["classify", "pretrain", "nerf"])
def test_a_batch_has_the_shapes_that_the_task_says(kind):
    made = task.make(blank(*ARGV[kind]), meshes.make_mesh(1))
    assert made.batch_shapes() == shapes(made.batch(made.steps - 1))


def test_a_probe_s_batch_has_the_shapes_of_features_that_were_computed(tmp_path):
    made = task.make(blank(*ARGV["linear"]), meshes.make_mesh(1))
    made.prepare(made.init(jax.random.key(0)), tmp_path)
    assert made.batch_shapes() == shapes(made.batch(0))


def test_an_unknown_program_and_a_batch_that_is_not_divided_are_refused():
    config = blank(*ARGV["classify"])
    with pytest.raises(UserError, match="--program=film: Classify has no such program; it has train, eval"):
        program.lower(config, meshes.make_mesh(4), "film")
    with pytest.raises(UserError, match="cannot be divided among 3 devices"):
        program.lower(config, meshes.make_mesh(3), "train")


def test_activations_are_those_of_an_accelerator():
    config, _ = configs.parse(["--config=configs/vit.py:accelerator"], "task")
    assert program.for_accelerator(config).model.activations == "bfloat16"
    assert program.for_accelerator(config).model.remat == "heads"  # not a CPU's unrolled blocks
    assert program.for_accelerator(configs.changed(config, {"dtype": "float32"})).model.activations == "float32"


def test_what_is_known_of_a_set_need_not_be_given():
    config = blank("--config=configs/imagenet_vit_s16.py", sizes=task.Sizes())
    assert (config.dataset, config.image_size) == ("blank:1281167:1000", 224)
    config = blank("--config=configs/simclr.py", sizes=task.Sizes(images=7000))
    assert (config.dataset, config.image_size, config.knn_dataset) == ("blank:7000:10", 32, "")
    config = blank("--config=configs/nerfacto.py", sizes=task.Sizes(images=200, size=480))
    assert (config.scene, config.split) == ("blank:200:480:unbounded", "given")
