"""Activations in bfloat16: kept so from the first layer to the last, and near enough to those in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.vision.models import registry

MODELS = {
    "vit": {"name": "vit", "patch": 4, "width": 32, "depth": 3, "heads": 2, "head_dim": 16, "mlp": 64},
    "timm": {
        "name": "vit",
        "patch": 8,
        "width": 32,
        "depth": 2,
        "heads": 2,
        "head_dim": 16,
        "mlp": 64,
        "style": "timm",
    },
    "resnet18": {"name": "resnet18", "width": 16},
    "resnet50": {"name": "resnet50", "width": 8, "stem": "cifar"},
}

KEY = jax.random.key(1)


def step(model):
    """(images, parameters and the rest) -> (loss, logits), gradients."""

    def loss(params, rest, images):
        logits, _ = model.apply({"params": params, **rest}, images, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(logits - 1)), logits

    return jax.value_and_grad(loss, has_aux=True)


def cosine(a, b):
    return np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("name", ["vit", "timm", "resnet18"])  # rounding grows in 50 batch norms of eight images
def test_losses_and_gradients_are_those_in_float32(name):
    images = jax.random.uniform(jax.random.key(1), (8, 32, 32, 3))
    results = []
    for dtype, kind in (("float32", "float32"), ("bfloat16", "bfloat16")):
        model = registry.create(MODELS[name] | {"activations": kind}, 10, 32, dtype)
        params, rest = registry.init(model, jax.random.key(0), images[:1])
        (value, logits), gradients = jax.jit(step(model))(params, rest, images)
        assert logits.dtype == jnp.float32 and all(g.dtype == jnp.float32 for g in jax.tree.leaves(gradients))
        flat = np.concatenate([g.ravel() for g in jax.tree.leaves(gradients)])
        results.append((value, logits, flat))
    (value, logits, exact), (value16, logits16, rounded) = results
    np.testing.assert_allclose(value16, value, rtol=0.02)
    assert cosine(logits, logits16) > 0.97 and cosine(exact, rounded) > 0.8  # eight images in a batch norm


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_keeps_the_type_of_its_input(name):
    model = registry.create(MODELS[name] | {"activations": "bfloat16"}, 10, 32, "bfloat16")
    images = jnp.zeros((2, 32, 32, 3))
    params, rest = registry.init(model, jax.random.key(0), images[:1])
    run = lambda: model.apply({"params": params, **rest}, images, train=False, capture_intermediates=True)
    logits, kept = jax.eval_shape(run)
    maps = [leaf for leaf in jax.tree.leaves(kept) if len(leaf.shape) > 2]  # the class token alone is the end
    assert maps and all(leaf.dtype == jnp.bfloat16 for leaf in maps if leaf.shape[1] > 1)
    assert logits.dtype == jnp.float32


def test_by_themselves_activations_are_bfloat16_where_products_are_but_not_on_cpus():
    from jaxhw.vision.models.layers import activation_type

    assert activation_type("auto", jnp.bfloat16) == jnp.float32  # the tests run on a CPU
    assert activation_type("bfloat16", jnp.bfloat16) == jnp.bfloat16
    assert activation_type("auto", jnp.float64) == jnp.float64


def test_stochastic_depth_keeps_the_type_of_the_tokens():
    model = registry.create(MODELS["vit"] | {"activations": "bfloat16", "drop_path": 0.1}, 10, 32, "bfloat16")
    params, rest = registry.init(model, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    train = lambda: model.apply({"params": params, **rest}, jnp.zeros((2, 32, 32, 3)), True, rngs={"dropout": KEY})
    assert jax.eval_shape(train).shape == (2, 10)  # the scan over the blocks refuses tokens that change their type
