"""Weights travel to PyTorch's names and back; the models give PyTorch's logits, gradients and running statistics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhw.vision.models import registry
from jaxhw.vision.models.resnet import ResNet
from jaxhw.vision.models.vit import ViT
from jaxhw.vision.weights import torch_names
from tests.golden import FOLDER as GOLDEN_FOLDER
from tests.vision import parity

GOLDEN = GOLDEN_FOLDER / "vision_models.npz"


def build(options):
    given = dict(options)
    if (name := given.pop("name")) == "vit":
        return ViT(32, parity.CLASSES, **given)
    return ResNet(bottleneck=name == "resnet50", num_classes=parity.CLASSES, **given)


def loss(model, rest, params):
    images = jnp.asarray(parity.images(), model.dtype)
    logits, new = model.apply({**rest, "params": params}, images, train=True, mutable=["batch_stats"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, parity.labels()).mean(), (logits, new)


@pytest.fixture(scope="module", params=parity.MODELS)
def case(request):
    """(golden values, our variables with the golden weights, our model) of one tiny model."""
    with np.load(GOLDEN) as file:
        golden = {k.split(":")[1]: file[k] for k in file.files if k.startswith(request.param + ":")}
    model = build(parity.MODELS[request.param])
    shapes = registry.shapes(model, 32)
    state = {name: value.shape for name, value in torch_names.to_torch(zeros(shapes)).items()}
    return golden, torch_names.from_torch(parity.weights(state), shapes), model


def zeros(shapes):
    return jax.tree.map(lambda a: np.zeros(a.shape, np.float32), shapes)


def test_names_and_order_are_pytorch_s(case):
    golden, variables, _ = case
    assert list(torch_names.to_torch(variables)) == list(golden["names"])


def test_round_trip_is_exact(case):
    _, variables, model = case
    again = torch_names.from_torch(torch_names.to_torch(variables), registry.shapes(model, 32))
    assert jax.tree.structure(again) == jax.tree.structure(variables)
    assert all(map(np.array_equal, jax.tree.leaves(again), jax.tree.leaves(variables)))


def test_evaluation_logits(case):
    golden, variables, model = case
    logits = jax.jit(partial(model.apply, train=False))(variables, parity.images())
    np.testing.assert_allclose(logits, golden["eval"], atol=1e-5)


def train_once(case, dtype):
    """(logits, {"grad/..." and "stat/...": projections}) of one pass of `dtype` through the model."""
    _, variables, model = case
    variables = jax.tree.map(lambda a: jnp.asarray(a, dtype), variables)
    rest = {k: v for k, v in variables.items() if k != "params"}
    step = jax.jit(jax.value_and_grad(partial(loss, model.clone(dtype=dtype), rest), has_aux=True))
    (_, (logits, new)), gradient = step(variables["params"])
    ours = torch_names.to_torch({"params": gradient, **new})
    return logits, lambda key: parity.project(ours[key.partition("/")[2]])


def test_training_logits_gradients_and_statistics_in_double_precision(case):
    """In float32 a ReLU's input within rounding of 0 may fall on either side, in PyTorch too; not in float64."""
    golden = case[0]
    with jax.enable_x64(True):
        logits, ours = train_once(case, jnp.float64)
        np.testing.assert_allclose(logits, golden["train"], atol=1e-12)
        for key in golden:
            if key.startswith(("grad/", "stat/")):
                scale = np.abs(golden[key]).max() + 1e-12
                np.testing.assert_allclose(ours(key), golden[key], atol=1e-9 * scale, err_msg=key)


def test_training_logits_and_statistics_in_single_precision(case):
    golden = case[0]
    logits, ours = train_once(case, jnp.float32)
    # statistics of as few as 16 values amplify rounding, differently in each release of XLA
    np.testing.assert_allclose(logits, golden["train"], atol=2e-5)
    for key in golden:
        if key.startswith("stat/"):
            np.testing.assert_allclose(ours(key), golden[key], atol=2e-5 * max(1e-3, np.abs(golden[key]).max()))


def test_parameter_table_of_the_report():
    table = torch_names.parameter_table(registry.shapes(registry.create({"name": "vit"}, 100, 32), 32))
    assert table[:3] == [
        ("pos_embedding", (1, 65, 192), 12480),
        ("cls_token", (1, 1, 192), 192),
        ("to_patch_embedding.1.weight", (48,), 48),
    ]
    assert table[-1] == ("mlp_head.bias", (100,), 100)
    assert ("transformer.layers.24.0.to_qkv.weight", (1152, 192), 221184) in table
    assert sum(count for *_, count in table) == 11_139_844
    table = torch_names.parameter_table(registry.shapes(registry.create({"name": "resnet18"}, 100, 32), 32))
    assert table[0] == ("conv1.weight", (64, 3, 7, 7), 9408)
    assert ("layer2.0.downsample.0.weight", (128, 64, 1, 1), 8192) in table
    assert len(table) == 62
    assert sum(count for *_, count in table) == 11_227_812


def test_bfloat16_changes_little_and_logits_stay_float32(case):
    _, variables, model = case
    logits = jax.jit(partial(model.clone(dtype=jnp.bfloat16).apply, train=False))(variables, parity.images())
    exact = jax.jit(partial(model.apply, train=False))(variables, parity.images())
    assert logits.dtype == jnp.float32
    assert float(jnp.abs(logits - exact).max()) < 0.05 * float(jnp.abs(exact).max())
