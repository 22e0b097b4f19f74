"""Methods: byol-pytorch's step, eight devices against one, a method of one's own, refusals."""

import inspect
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhw import mesh as meshes
from jaxhw import train
from jaxhw.errors import UserError
from jaxhw.options import option
from jaxhw.state import Variables
from jaxhw.task import Context
from jaxhw.vision.models import registry
from jaxhw.vision.models.heads import MLP
from jaxhw.vision.models.layers import l2_normalise
from jaxhw.vision.models.networks import Networks
from jaxhw.vision.models.resnet import ResNet
from jaxhw.vision.ssl import losses, methods
from jaxhw.vision.ssl.methods.base import Method, Outputs
from jaxhw.vision.tasks.pretrain import Pretrain, default_config
from jaxhw.vision.weights import sources
from tests.golden import FOLDER as GOLDEN_FOLDER


def context_of(mesh, seed=0, progress=0.0):
    return Context(jnp.int32(0), jnp.float32(progress), jax.random.key(seed), mesh)


SMALL = {"hidden": 8, "dim": 6, "bottleneck": 4}


def config_of(name, **changes):
    config = default_config(name, "vit")
    config.update({"steps": 4, "batch_size": 16, "log_every": 2, "knn_bank": 64})
    config.model.update({"patch": 4, "width": 8, "depth": 1, "heads": 1, "head_dim": 8, "mlp": 8})
    config.method.update({key: value for key, value in SMALL.items() if key in config.method})
    config.augment.update({"blur": (0.0,), "jitter_probability": 0.0})
    config.update(changes)
    return config


def small_networks(method, dtype, mesh, norm_groups):
    """A ResNet's stem, a convolution and its batch norm, under the method's own heads."""
    backbone = ResNet((), False, image_size=8, width=4, stem="cifar", norm_groups=norm_groups, dtype=dtype)
    return Networks({"backbone": backbone, **method.heads(dtype)}, method.together, mesh)


def task_in_double(name, mesh, norm_groups):
    task = Pretrain(config_of(name), mesh)
    task.networks = small_networks(task.method, jnp.float64, mesh, norm_groups)
    task.views = lambda keys, images: jnp.stack([images / 255, 1 - (images / 255) ** 2], 1).astype(jnp.float64)
    return task


@pytest.mark.parametrize("norm_groups", [1, 8])
@pytest.mark.parametrize("name", methods.METHODS)
def test_eight_devices_give_the_loss_and_gradient_of_one(name, norm_groups, monkeypatch):
    if norm_groups == 8:
        monkeypatch.setattr(losses, "BLOCK", 64)  # SimCLR's similarities, 16 blocks of them
    found = []
    with jax.enable_x64(True):
        for devices in (1, 8):
            mesh = meshes.make_mesh(devices)
            task = task_in_double(name, mesh, norm_groups)
            variables = meshes.on_mesh(lambda task=task: task.init(jax.random.key(0)), mesh)
            batch = meshes.put_rows(task.batch(0), mesh)
            step = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
            context = context_of(mesh, seed=1)
            (loss, (state, _)), gradient = step(variables.params, variables.model_state, batch, context)
            found.append(jax.device_get((loss, gradient, state["batch_stats"])))
    one, eight = found
    assert np.isfinite(one[0]) and {"backbone", "projector"} <= set(one[1]) and set(one[1]) == set(one[2])
    biggest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(one[1]))
    assert biggest > 1e-3
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * biggest)


@pytest.mark.parametrize("together", [True, False])
def test_views_share_their_batch_statistics_or_not(together):
    images = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    images[:, 1] += 9
    networks = Networks({"backbone": MLP((4,), last="norm")}, together, meshes.make_mesh(1))
    module = networks.modules["backbone"]
    variables = module.init(jax.random.key(0), images[:, 0], train=False)
    stats = {"backbone": variables["batch_stats"]}
    outputs, new = networks({"backbone": variables["params"]}, stats, images, jax.random.key(0))
    means = np.asarray(outputs["backbone"]).mean(0)
    np.testing.assert_allclose(outputs["backbone"].mean((0, 1)), 0, atol=1e-5)
    assert (np.abs(means).max() < 1e-5) != together
    moved = new["backbone"]["bn1"]["mean"]
    first, second = (np.asarray(images[:, i] @ variables["params"]["linear1"]["kernel"]).mean(0) for i in (0, 1))
    expected = 0.1 * (first + second) / 2 if together else 0.9 * 0.1 * first + 0.1 * second
    np.testing.assert_allclose(moved, expected, atol=1e-5)


class Flat(nn.Module):
    """The backbone of the golden step: torch's Flatten and Linear."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(10, name="linear", param_dtype=jnp.float64)(x.transpose(0, 3, 1, 2).reshape(len(x), -1))


def torch_tree(golden, prefix, names):
    """byol-pytorch's tensors as our trees; a bias in front of a batch norm is cancelled, and ours has none."""

    def mlp(at):
        get = lambda name: golden[f"{prefix}/{at}.{name}"]
        first, norm = {"kernel": get("0.weight").T}, {"scale": get("1.weight"), "bias": get("1.bias")}
        return {"linear1": first, "bn1": norm, "linear2": {"kernel": get("3.weight").T, "bias": get("3.bias")}}

    net = {
        "kernel": golden[f"{prefix}/{names['backbone']}.1.weight"].T,
        "bias": golden[f"{prefix}/{names['backbone']}.1.bias"],
    }
    return {"backbone": {"linear": net}} | {name: mlp(at) for name, at in names.items() if name != "backbone"}


ONLINE = {"backbone": "net", "projector": "online_encoder.projector", "predictor": "online_predictor"}
TARGET = {"backbone": "target_encoder.net", "projector": "target_encoder.projector"}


def test_a_step_of_byol_is_byol_pytorchs():
    """Loss, every gradient, and the target: the optimiser steps first, then the target follows."""
    golden = np.load(GOLDEN_FOLDER / "ssl_losses.npz")
    with jax.enable_x64(True):
        config = config_of("byol", method={"hidden": 8, "dim": 5, "tau": 0.9, "tau_schedule": "fixed"})
        mesh = meshes.make_mesh(1)
        task = Pretrain(config, mesh)
        task.networks = Networks({"backbone": Flat(), **task.method.heads(jnp.float64)}, task.method.together, mesh)
        task.views = lambda keys, images: jnp.stack([images, images[:, :, ::-1] ** 2], 1)
        params, target = torch_tree(golden, "byol/before", ONLINE), torch_tree(golden, "byol/before", TARGET)
        stats = {name: {"bn1": {"mean": jnp.zeros(8), "var": jnp.ones(8)}} for name in ("projector", "predictor")}
        state, batch = {"batch_stats": stats, "target": target}, {"image": golden["byol/images"]}
        step = jax.value_and_grad(task.loss, has_aux=True)
        (loss, (state, _)), gradient = jax.jit(step)(params, state, batch, context_of(mesh))
        params = optax.apply_updates(params, jax.tree.map(lambda g: -0.1 * g, gradient))
        after = task.after_update(Variables(params, state), context_of(mesh))["target"]
    assert float(loss) == pytest.approx(float(golden["byol/value"]), rel=1e-9)
    for ours, theirs in (
        (gradient, torch_tree(golden, "byol/gradient", ONLINE)),
        (after, torch_tree(golden, "byol/after", TARGET)),
    ):
        assert jax.tree.structure(ours) == jax.tree.structure(theirs)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9), ours, theirs)


@pytest.mark.parametrize("name", ["byol", "moco"])
def test_tau_rises_to_one_along_a_cosine_or_stays(name):
    rising = methods.create({"name": name, "tau": 0.96})
    expected = [0.96, 1 - 0.04 * (1 + np.cos(np.pi / 4)) / 2, 0.98, 1.0]
    assert [float(rising.decay(t)) for t in (0, 0.25, 0.5, 1)] == pytest.approx(expected)
    assert methods.create({"name": name, "tau": 0.96, "tau_schedule": "fixed"}).decay(0.5) == 0.96


def test_tau_follows_the_progress_of_the_run():
    """Half way the target goes 0.02 of the way to the online network, at the end it stays where it is."""
    task = Pretrain(config_of("byol", steps=50, method={"hidden": 8, "dim": 6, "tau": 0.96}), meshes.make_mesh(1))
    variables = task.init(jax.random.key(0))
    before = variables.model_state["target"]
    variables = variables.replace(params=jax.tree.map(lambda a: a + 1, variables.params))
    for progress, moved in ((0.0, 0.04), (0.5, 0.02), (1.0, 0.0)):
        after = task.after_update(variables, context_of(meshes.make_mesh(1), progress=progress))["target"]
        jax.tree.map(lambda a, b, moved=moved: np.testing.assert_allclose(a - b, moved, atol=1e-6), after, before)


def test_the_projector_of_simclr_has_two_layers_or_three():
    for layers in (2, 3):
        method = methods.create({"name": "simclr", "layers": layers, "hidden": 8, "dim": 6})
        projector = method.heads(jnp.float32)["projector"]
        params = projector.init(jax.random.key(0), jnp.ones((4, 5)), train=False)["params"]
        kernels = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
        assert sorted(kernels) == sorted([(5, 8), *[(8, 8)] * (layers - 2), (8, 6)])


@dataclass(frozen=True)
class Toy(Method):
    """Views agree, and each feature varies."""

    weight: float = option(2.0, "of the variance")

    def heads(self, dtype):
        return {"projector": MLP((6,), last="bias", dtype=dtype)}

    def loss(self, outputs: Outputs):
        z = outputs.projections
        return jnp.square(z[:, 0] - z[:, 1]).mean() + self.weight * nn.relu(1 - z.std((0, 1))).mean()


def test_a_method_of_ones_own_is_a_few_lines(monkeypatch, tmp_path):
    assert len(inspect.getsource(Toy).splitlines()) < 30
    monkeypatch.setitem(methods.METHODS, "toy", Toy)
    config, mesh = config_of("toy", steps=30, log_every=10), meshes.make_mesh(1)
    config.method.weight = 1.0
    config.optim.lr = 0.01
    task = Pretrain(config, mesh)
    assert task.method == Toy(1.0)
    results = train.run(task, config, mesh, tmp_path)
    assert results["method"] == "toy" and results["test_knn_accuracy"] > 0.1
    losses = [line["loss"] for line in train.metrics.read(tmp_path / "metrics.jsonl") if "loss" in line]
    assert losses[-1] < 0.95 * losses[0]


@dataclass(frozen=True)
class Collapsing(Method):
    """Nothing but agreement: BYOL without predictor and target."""

    def heads(self, dtype):
        return {"projector": MLP((6,), last="bias", dtype=dtype)}

    def loss(self, outputs: Outputs):
        z = l2_normalise(outputs.projections)
        return -jnp.mean(jnp.sum(z[:, 0] * z[:, 1], -1))


def test_a_run_that_collapses_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(methods.METHODS, "collapsing", Collapsing)
    config, mesh = config_of("collapsing", steps=60), meshes.make_mesh(1)
    config.optim.lr = 0.01
    results = train.run(Pretrain(config, mesh), config, mesh, tmp_path)
    assert results["collapsed"] is True and "collapsed: all images" in capsys.readouterr().out
    sources.load(str(tmp_path), registry.shapes(registry.create(config.model, None, 8), 8))
    assert f"init_from {tmp_path}: that run has collapsed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "simclear"}, "config.method.name='simclear' must be one of simclr, byol"),
        ({"name": "simclr", "tau": 0.9}, "config.method.tau is no option of simclr; choose from temperature, "),
        ({"name": "simclr", "temperature": 0.01}, "config.method.temperature=0.01 must be a number of at least 0.025"),
        ({"name": "simclr", "dim": 0}, "config.method.dim=0 must be a whole number of at least 1"),
        ({"name": "simclr", "norm": 1}, "config.method.norm=1 must be True or False"),
        ({"name": "byol", "tau": 1.5}, "config.method.tau=1.5 must be a number from 0 to 1"),
        (
            {"name": "moco", "tau_schedule": "linear"},
            "config.method.tau_schedule='linear' must be one of fixed, cosine",
        ),
        ({"name": "moco", "temperature": 0.0}, "config.method.temperature=0.0 must be a number above 0"),
        ({"name": "vicreg", "variance": -1.0}, "config.method.variance=-1.0 must be a number of at least 0"),
        ({"name": "barlow_twins", "redundancy": "0"}, "config.method.redundancy='0' must be a number of at least 0"),
    ],
)
def test_bad_options_are_one_line(given, message):
    with pytest.raises(UserError) as caught:
        methods.create(given)
    assert message in str(caught.value) and "\n" not in str(caught.value)
