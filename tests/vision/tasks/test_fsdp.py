"""A state in parts gives what a whole one gives: labelled and self-supervised runs, moved between devices too."""

import contextlib
import math
import re

import jax
import numpy as np
import pytest

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw import metrics, start, task, train
from jaxhw.plan.program import lower
from jaxhw.task import Sizes
from jaxhw.tree import by_name
from jaxhw.vision.tasks import classify, pretrain
from tests.stepping import stepped

VIT = {"patch": 2, "width": 64, "depth": 4, "heads": 4, "head_dim": 32, "mlp": 256}  # two thirds of it are divided
STEPS = 8


def labelled(**changes):
    config = classify.default_config("vit")
    config.update({"batch_size": 32, "normalise": "cifar10"})
    config.augment.update({"crop": "pad", "pad": 1, "cutmix": 1.0, "mix_probability": 0.5})
    return short(config, changes)


def unlabelled(method="byol", **changes):
    config = pretrain.default_config(method, "vit")
    config.update({"batch_size": 32, "normalise": "cifar10", "knn_bank": 100, "test": False})
    config.method.update({key: 64 for key in ("hidden", "dim") if key in config.method})
    config.augment.update({"crop_scale": (0.4, 1.0), "blur": (0.0,), "jitter_probability": 0.0})
    return short(config, changes)


def short(config, changes):
    config.update({"dataset": "digits", "steps": STEPS, "log_every": 1, "eval_every": STEPS, "checkpoint_every": 2})
    config.model.update(VIT)
    config.optim.update({"name": "adamw", "lr": 1e-3, "eps": 1e-3, "weight_decay": 0.05, "ema": 0.9})
    config.update(changes)
    return config.lock()


class Stop(train.Observer):
    """Ends a run as a kill does, after a step."""

    def __init__(self, at):
        self.at = at

    def after_step(self, step, snapshot):
        if step == self.at:
            raise KeyboardInterrupt


def losses(workdir, config, mesh, stop=0):
    """By step, of a run that begins or goes on in a workdir; and its last evaluation."""
    with contextlib.suppress(KeyboardInterrupt):
        train.run(task.make(config, mesh), config, mesh, workdir, (Stop(stop),))
    lines = metrics.read(workdir / "metrics.jsonl")
    evaluated = [{k: v for k, v in line.items() if k.startswith("val_")} for line in lines]
    return [line["loss"] for line in lines if "loss" in line], [numbers for numbers in evaluated if numbers]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A labelled run, data-parallel on eight devices."""
    config = labelled(validation=0.1)
    return config, losses(tmp_path_factory.mktemp("whole"), config, meshes.make_mesh())


@pytest.mark.parametrize("fsdp", [8, 2])
def test_parts_of_a_state_are_learnt_and_evaluated_as_whole_ones_are(whole, tmp_path, fsdp):
    config, (wanted, numbers) = whole
    found, evaluated = losses(tmp_path, config, meshes.make_mesh(fsdp=fsdp))
    assert len(found) == STEPS and set(evaluated[0]) == {"val_accuracy", "val_top5", "val_loss"}
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(list(evaluated[0].values()), list(numbers[0].values()), rtol=1e-5)


@pytest.mark.parametrize("method", ["byol", "simclr"])
def test_self_supervised_states_in_parts_learn_as_whole_ones_do(method):
    """And a step leaves each array where it was, moments, averages and target networks too."""
    config = unlabelled(method)
    wanted, *_ = stepped(config, meshes.make_mesh(), 4)
    found, before, after = stepped(config, meshes.make_mesh(fsdp=4), 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert len(set(found)) == 4
    same = jax.tree.map(lambda a, old: old.is_equivalent_to(a.sharding, a.ndim), after, before)
    assert all(jax.tree.leaves(same))
    names = {name for name, sharding in by_name(before).items() if any(sharding.spec)}
    places = ["params", "opt_state/0/mu", "opt_state/0/nu", "ema/params"]
    for place in places + ["model_state/target"] * (method == "byol"):
        assert any(name.startswith(f"{place}/backbone/blocks") for name in names), place


def test_a_step_of_a_state_in_parts_is_compiled_once(caplog):
    with jax.log_compiles():
        stepped(labelled(), meshes.make_mesh(fsdp=4), 3)
    assert sum("Compiling jit(step)" in record.getMessage() for record in caplog.records) == 1


def test_a_run_moves_between_meshes(whole, tmp_path):
    """Eight devices that share a state, eight that do not, two that do, and one; in between the run is killed."""
    config, (wanted, _) = whole
    for stop, devices, fsdp in ((3, 8, 8), (5, 8, 1), (7, 2, 2), (0, 1, 1)):
        found, _ = losses(tmp_path, config, meshes.make_mesh(devices // fsdp, fsdp=fsdp), stop)
    assert len(found) == STEPS
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_layers_are_gathered_one_at_a_time_and_activations_never():
    """The large kernels of a block, and no stack of them: `to_qkv`, and both of the MLP."""
    text = lower(labelled(), meshes.make_mesh(fsdp=8), "train").lowered.compile().as_text()
    shapes = re.findall(r"= \w+\[([\d,]+)\]\S* all-gather\(", text)
    assert {math.prod(map(int, shape.split(","))) for shape in shapes} == {64 * 3 * 128, 64 * 256}


def test_each_device_has_its_share_of_a_vit_l():
    """Bytes by arithmetic: parameters and two moments of each in float32, of 304 million of them."""
    config, _ = configs.parse(["--config=configs/imagenet_vit_l16.py"], "task")
    config = classify.Classify.without_data(config, Sizes())
    mesh = meshes.make_mesh(fsdp=8)
    made = task.make(config, mesh)
    state = jax.eval_shape(lambda v: start.initial_state(made, config, v), made.variable_shapes())
    layout = meshes.layout(state, mesh)
    sizes = lambda shape: sum(
        4 * np.prod(shape(leaf, place), dtype=np.int64)
        for leaf, place in zip(jax.tree.leaves(state), jax.tree.leaves(layout), strict=True)
    )
    whole, part = sizes(lambda leaf, _: leaf.shape), sizes(lambda leaf, place: place.shard_shape(leaf.shape))
    assert whole == pytest.approx(3 * 4 * 304.3e6, rel=1e-3)
    assert whole / 8 <= part < 1.005 * whole / 8


@pytest.mark.slow
def test_a_vit_that_one_device_could_not_hold_trains_on_eight(tmp_path):
    """Against a limit between what the compiled steps of either layout need on a device."""
    big = {"model": {"width": 512, "depth": 8, "heads": 8, "head_dim": 64, "mlp": 2048}, "steps": 3, "test": False}
    config, needed = labelled(**big), {}
    for fsdp in (1, 8):
        mesh = meshes.make_mesh(fsdp=fsdp)
        stats = lower(config, mesh, "train").lowered.compile().memory_analysis()
        needed[fsdp] = stats.argument_size_in_bytes + stats.temp_size_in_bytes
    assert needed[8] < 0.5 * needed[1]
    found, _ = losses(tmp_path, config, meshes.make_mesh(fsdp=8))
    assert len(found) == 3 and np.isfinite(found).all()
