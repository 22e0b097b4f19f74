"""Projectors and predictors against the same layers written out."""

import jax
import numpy as np
import pytest

from jaxhw.vision.models.heads import LAST, MLP


def names(variables):
    return {"/".join(key.key for key in path) for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]}


def numpy_mlp(variables, x, layers, last_norm):
    """Linear, batch norm with the batch's own statistics, ReLU..."""
    params = variables["params"]
    for i in range(1, layers + 1):
        linear = params[f"linear{i}"]
        x = x @ np.asarray(linear["kernel"]) + np.asarray(linear.get("bias", 0.0))
        if i < layers or last_norm:
            norm = params.get(f"bn{i}", {})
            x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
            x = x * np.asarray(norm.get("scale", 1.0)) + np.asarray(norm.get("bias", 0.0))
        x = np.maximum(x, 0) if i < layers else x
    return x


@pytest.mark.parametrize("last", LAST)
def test_it_computes_its_layers(last):
    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    module = MLP((7, 6, 4), last=last)
    variables = module.init(jax.random.key(0), x, train=False)
    variables = jax.tree.map(lambda a: a + 0.1, variables)
    y, _ = module.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, numpy_mlp(variables, x, 3, "norm" in last), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("norm", "last", "expected"),
    [
        (False, "bias", {"linear1/kernel", "linear1/bias", "linear2/kernel", "linear2/bias"}),
        (True, "bias", {"linear1/kernel", "bn1/scale", "bn1/bias", "linear2/kernel", "linear2/bias"}),
        (True, "no_bias", {"linear1/kernel", "bn1/scale", "bn1/bias", "linear2/kernel"}),
        (True, "norm", {"linear1/kernel", "bn1/scale", "bn1/bias", "linear2/kernel"}),
        (True, "scaled_norm", {"linear1/kernel", "bn1/scale", "bn1/bias", "linear2/kernel", "bn2/scale"}),
    ],
)
def test_no_parameter_is_cancelled_by_a_norm(norm, last, expected):
    variables = MLP((3, 2), norm, last).init(jax.random.key(0), np.ones((2, 4), np.float32), train=False)
    assert names(variables["params"]) == expected


def test_inference_uses_the_running_statistics():
    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    module = MLP((7, 4), last="norm")
    variables = module.init(jax.random.key(0), x, train=False)
    one, all_ = (module.apply(variables, rows, train=False) for rows in (x[:1], x))
    np.testing.assert_allclose(one, all_[:1], atol=1e-6)
    assert names(variables["batch_stats"]) == {"bn1/mean", "bn1/var", "bn2/mean", "bn2/var"}
