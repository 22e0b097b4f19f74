"""Parts of a batch, one after the other, give what the batch gives, where that can be; elsewhere they are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhw import accumulation, metrics, task, train
from jaxhw import mesh as meshes
from jaxhw.__main__ import main
from jaxhw.errors import UserError
from jaxhw.nerf import task as nerf
from jaxhw.task import Context
from jaxhw.vision.models.parts import in_training
from jaxhw.vision.models.resnet import ResNet
from jaxhw.vision.tasks import classify, linear, pretrain
from tests.nerf import test_nerfacto_run, test_task
from tests.stepping import stepped
from tests.toy import Toy, toy_config


def labelled(model="vit", /, **changes):
    config = classify.default_config(model)
    config.update({"dataset": "digits", "batch_size": 32, "steps": 5, "log_every": 1, "test": False})
    if model == "vit":
        config.model.update({"patch": 4, "width": 16, "depth": 2, "heads": 2, "head_dim": 8, "mlp": 32})
    config.augment.update({"crop": "pad", "pad": 1, "cutmix": 1.0, "label_smoothing": 0.1})
    config.optim.update({"name": "sgd", "lr": 0.1})
    config.update(changes)
    return config.lock()


def unlabelled(method, **changes):
    config = pretrain.default_config(method, "vit")
    config.update({"dataset": "digits", "batch_size": 32, "steps": 5, "knn_bank": 100, "test": False})
    config.model.update({"patch": 4, "width": 16, "depth": 2, "heads": 2, "head_dim": 8, "mlp": 32})
    config.augment.update({"crop_scale": (0.4, 1.0), "blur": (0.0,)})
    config.update(changes)
    return config.lock()


def scene(**changes):
    config = nerf.default_config("vanilla")
    config.update({"scene": "demo", "downscale": 16, "batch_size": 64, "steps": 3, "log_every": 1, "lpips": "none"})
    config.model.update({"width": 16, "depth": 2, "skip": 1, "samples": 8, "importance": 8})
    config.update(changes)
    return config.lock()


def losses(workdir, config, mesh):
    train.run(task.make(config, mesh), config, mesh, workdir)
    return [line["loss"] for line in metrics.read(workdir / "metrics.jsonl") if "loss" in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The losses of a run whose batches are whole."""
    return losses(tmp_path_factory.mktemp("whole"), labelled(), meshes.make_mesh(1))


@pytest.mark.parametrize(("devices", "fsdp"), [(1, 1), (4, 2)])
def test_a_batch_in_parts_trains_as_the_whole_one_does(whole, tmp_path, caplog, devices, fsdp):
    """With crops, mixtures across the parts and label smoothing; by one program."""
    with jax.log_compiles():
        found = losses(tmp_path, labelled(accumulate=4), meshes.make_mesh(devices // fsdp, fsdp=fsdp))
    assert len(found) == 5 and len(set(found)) == 5
    np.testing.assert_allclose(found, whole, rtol=1e-6)
    assert sum("Compiling jit(step)" in record.getMessage() for record in caplog.records) == 1


def evaluated(made, parts, batch=None):
    """((loss, (model_state, metrics)), gradients) of a task at its start, in so many parts; and what they are of."""
    variables = jax.device_get(made.init(jax.random.key(0)))
    context = Context(jnp.int32(3), jnp.float32(0.1), jax.random.key(1), meshes.make_mesh(1))
    arguments = variables.params, variables.model_state, made.batch(0) if batch is None else batch, context
    value = accumulation.value_and_grad(made, parts, lambda grads: grads)
    return jax.jit(value)(*arguments), arguments


def small(**changes):
    """Labelled images and one residual block."""
    config = labelled("resnet18", augment={"crop": "none", "cutmix": 0.0}, **changes)
    made = task.make(config, meshes.make_mesh(1))
    groups = config.model.norm_groups
    made.classifier.model = ResNet((1,), False, width=4, stem="cifar", num_classes=10, norm_groups=groups)
    made.apply = in_training(made.classifier.model, meshes.make_mesh(1))
    return made


def test_batch_statistics_are_those_of_a_part(capsys):
    """The oracle is ghost batch normalisation, whose parts of the batch lie one behind the other."""
    found, (_, _, batch, _) = evaluated(small(accumulate=4), 4)
    assert "config.accumulate=4: batch statistics are those of 8 images" in capsys.readouterr().err
    in_order = jax.tree.map(lambda x: np.concatenate([x[j::4] for j in range(4)]), batch)
    wanted, _ = evaluated(small(model={"norm_groups": 4}), 1, in_order)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda mesh: Toy(toy_config(), mesh),
        lambda mesh: task.make(scene(), mesh),
        pytest.param(lambda mesh: task.make(unlabelled("byol"), mesh), marks=pytest.mark.slow),
    ],
    ids=["toy", "nerf", "byol"],
)
def test_gradients_states_and_metrics_are_means_over_the_parts(make):
    made = make(meshes.make_mesh(1))
    found, (params, model_state, batch, context) = evaluated(made, 2)
    augmented, value = made.augmented(batch, context), jax.jit(jax.value_and_grad(made.part_loss, has_aux=True))

    def of_part(j):
        part = jax.tree.map(lambda x: x[j::2], augmented)
        return value(params, model_state, part, context.replace(rng=jax.random.fold_in(context.rng, j)))

    wanted = jax.tree.map(lambda a, b: (a + b) / 2, of_part(0), of_part(1))
    (values, gradients), (wanted, wanted_gradients) = found, wanted
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), values, wanted)
    apart = jax.tree.map(lambda a, b: a - b, gradients, wanted_gradients)
    assert optax.tree.norm(apart) < 1e-3 * optax.tree.norm(wanted_gradients)  # samples may change places by rounding


@pytest.mark.parametrize("kind", [scene, test_task.tiny, test_nerfacto_run.tiny], ids=["vanilla", "dvgo", "nerfacto"])
def test_a_scene_is_learnt_in_parts_on_any_mesh(kind):
    """A mean over other random numbers: as good, not the same."""
    wanted, *_ = stepped(kind(), meshes.make_mesh(1), 5)
    found, *_ = stepped(kind(accumulate=2), meshes.make_mesh(2, fsdp=2), 5)
    np.testing.assert_allclose(found, wanted, rtol=0.3)


@pytest.mark.parametrize("name", ["simclr", "moco", "barlow_twins", "vicreg"])
def test_losses_that_compare_images_are_refused(name):
    says = rf"config\.accumulate=2 must be 1: the loss of {name} compares all images of a batch"
    with pytest.raises(UserError, match=says):
        task.make(unlabelled(name, accumulate=2), meshes.make_mesh(1))


def test_other_losses_that_do_not_divide_are_refused():
    probe = linear.default_config("vit")
    probe.update({"dataset": "digits", "accumulate": 2, "steps": 1, "image_size": 8})
    with pytest.raises(UserError, match=r"config\.accumulate=2 must be 1: of the heads, the best"):
        task.make(probe, meshes.make_mesh(1))
    grids = test_task.tiny(accumulate=2, model={"total_variation": (1e-6, 0.0)})
    with pytest.raises(UserError, match=r"config\.accumulate=2 must be 1: config\.model\.total_variation is"):
        task.make(grids, meshes.make_mesh(1))


def test_groups_must_divide_a_part():
    config = labelled("resnet18", accumulate=8, model={"norm_groups": 8})
    says = r"config\.model\.norm_groups=8 must divide config\.batch_size=32 / config\.accumulate=8"
    with pytest.raises(UserError, match=says):
        task.make(config, meshes.make_mesh(1))


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("accumulate=3", "config.batch_size=64 cannot be divided among 8 devices in config.accumulate=3 parts"),
        ("accumulate=0", "config.accumulate=0 must be a whole number of at least 1"),
        ("mesh.fsdp=3", "config.mesh.fsdp=3 does not divide the 8 devices"),
        ("mesh.layout=(('block/*', 0),)", "config.mesh.layout: 'block/*' matches no parameter"),
        ("mesh.layout=(0,)", "config.mesh.layout=(0,) must be a tuple of (path pattern, axis) pairs"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(tmp_path, capsys, flag, says):
    flags = ["train", "--config=configs/vit.py:digits", f"--workdir={tmp_path / 'run'}", f"--config.{flag}"]
    assert main(flags) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and says in lines[0]
    assert not (tmp_path / "run").exists()
