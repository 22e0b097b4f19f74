"""Parts of a batch, one after the other, give what the batch gives, where that can be; elsewhere they are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import accumulation, metrics, start, step, task, train
from jaxhw import mesh as meshes
from jaxhw.__main__ import main
from jaxhw.errors import UserError
from jaxhw.nerf import task as nerf
from jaxhw.state import Variables
from jaxhw.task import Context
from jaxhw.vision.tasks import classify, linear, pretrain
from tests.nerf import test_nerfacto_run, test_task


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
    config.update({"scene": "demo", "downscale": 32, "batch_size": 64, "steps": 3, "log_every": 1, "lpips": "none"})
    config.model.update({"width": 16, "depth": 2, "skip": 1, "samples": 8, "importance": 8})
    config.update(changes)
    return config.lock()


def losses(workdir, config, mesh):
    train.run(task.make(config, mesh), config, mesh, workdir)
    return [line["loss"] for line in metrics.read(workdir / "metrics.jsonl") if "loss" in line]


@pytest.mark.parametrize(("devices", "fsdp"), [(1, 1), (4, 1), (4, 2)])
def test_a_batch_in_parts_trains_as_the_whole_one_does(tmp_path, devices, fsdp):
    """With crops, mixtures across the parts and label smoothing."""
    wanted = losses(tmp_path / "whole", labelled(), meshes.make_mesh(1))
    mesh = meshes.make_mesh(devices // fsdp, fsdp=fsdp)
    found = losses(tmp_path / "parts", labelled(accumulate=4), mesh)
    assert len(found) == 5 and len(set(found)) == 5
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def evaluated(config, parts, batch=None, mesh=None):
    """((loss, (model_state, metrics)), gradients) at the start of a run, in so many parts; and what they are of."""
    mesh = mesh or meshes.make_mesh(1)
    made = task.make(config, mesh)
    variables = jax.device_get(made.init(jax.random.key(0)))
    context = Context(jnp.int32(3), jnp.float32(0.1), jax.random.key(1), mesh)
    batch = made.batch(0) if batch is None else batch
    value = accumulation.value_and_grad(made, parts, lambda grads: grads)
    return jax.jit(value)(variables.params, variables.model_state, batch, context), (made, variables, batch, context)


def test_batch_statistics_are_those_of_a_part(capsys):
    """The oracle is ghost batch normalisation, whose parts of the batch lie one behind the other."""
    plain = {"crop": "none", "cutmix": 0.0}
    config = labelled("resnet18", augment=plain, model={"width": 8, "stem": "cifar"}, accumulate=4)
    parts, (_, _, batch, _) = evaluated(config, 4)
    assert "config.accumulate=4: batch statistics are those of 8 images" in capsys.readouterr().err
    ghosts = labelled("resnet18", augment=plain, model={"width": 8, "stem": "cifar", "norm_groups": 4})
    in_order = jax.tree.map(lambda x: np.concatenate([x[j::4] for j in range(4)]), batch)
    wanted, _ = evaluated(ghosts, 1, in_order)
    for a, b in zip(jax.tree.leaves(parts), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config", [unlabelled("byol"), unlabelled("simsiam"), scene()], ids=["byol", "simsiam", "nerf"]
)
def test_gradients_states_and_metrics_are_means_over_the_parts(config):
    found, (made, variables, batch, context) = evaluated(config, 2)
    augmented, both = made.augmented(batch, context), []
    for j in range(2):
        part, own = jax.tree.map(lambda x: x[j::2], augmented), context.replace(rng=jax.random.fold_in(context.rng, j))  # noqa: B023
        both.append(jax.value_and_grad(made.part_loss, has_aux=True)(*variables_of(variables), part, own))
    wanted = jax.tree.map(lambda a, b: (a + b) / 2, *both)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def variables_of(variables: Variables):
    return variables.params, variables.model_state


def test_a_step_in_parts_is_compiled_once():
    config, mesh = labelled(accumulate=2), meshes.make_mesh(fsdp=4)
    made = task.make(config, mesh)
    state = start.begin(made, config, mesh, jax.device_get(made.init(jax.random.key(0))))
    one = step.make_step(made, config, mesh)
    for i in range(3):
        state, _ = one(state, meshes.put_rows(made.batch(i), mesh))
    assert one._cache_size() == 1


@pytest.mark.parametrize("kind", [scene, test_task.tiny, test_nerfacto_run.tiny], ids=["vanilla", "dvgo", "nerfacto"])
def test_a_scene_is_learnt_in_parts_on_any_mesh(tmp_path, kind):
    """A mean over other random numbers: as good, not the same."""
    some = {"log_every": 5, "steps": 15, "eval_every": 100}
    wanted = losses(tmp_path / "whole", kind(**some), meshes.make_mesh(1))
    found = losses(tmp_path / "parts", kind(**some, accumulate=2), meshes.make_mesh(2, fsdp=2))
    np.testing.assert_allclose(found, wanted, rtol=0.2)


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
