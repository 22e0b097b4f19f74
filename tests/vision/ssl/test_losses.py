"""Losses against lightly's values and gradients, and against what they say in words for more views."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.vision.models.layers import l2_normalise
from jaxhw.vision.ssl import losses
from tests.golden import FOLDER as GOLDEN_FOLDER


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN_FOLDER / "ssl_losses.npz")


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("nt_xent_0.07", lambda z, _: losses.nt_xent(z, 0.07)),
        ("nt_xent_0.5", lambda z, _: losses.nt_xent(z, 0.5)),
        ("barlow_twins", lambda z, _: losses.barlow_twins(z, 0.005)),
        ("vicreg", lambda z, _: losses.vicreg(z, 25.0, 25.0, 1.0)),
        ("simsiam", losses.simsiam),
        ("moco", lambda z, other: losses.moco(z, other, 0.2)),
    ],
)
def test_values_and_gradients_are_the_originals(golden, name, loss):
    value, gradient = jax.jit(jax.value_and_grad(loss))(golden["z"], golden["other"])
    np.testing.assert_allclose(value, golden[f"{name}/value"], rtol=1e-9)
    np.testing.assert_allclose(gradient, golden[f"{name}/gradient"], atol=1e-9 * np.abs(gradient).max())


def by_hand(z, temperature):
    """NT-Xent for any number of views, image by image."""
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    costs = []
    for i, a in np.ndindex(z.shape[:2]):
        others = np.exp(np.delete(z, i, 0) @ z[i, a] / temperature).sum()
        for p in set(range(z.shape[1])) - {a}:
            positive = np.exp(z[i, a] @ z[i, p] / temperature)
            costs.append(-np.log(positive / (positive + others)))
    return np.mean(costs)


@pytest.mark.parametrize("views", [2, 3, 5])
def test_every_view_is_a_positive_of_every_other(views):
    z = np.random.default_rng(views).normal(size=(6, views, 4))
    assert float(losses.nt_xent(z, 0.3)) == pytest.approx(by_hand(z, 0.3), rel=1e-12)


@pytest.mark.parametrize("views", [2, 5])
def test_aligned_views_of_distinct_images_cost_nothing(views):
    """Cross-entropy with one right answer among five views would not fall below log 4."""
    z = np.repeat(np.eye(8)[:, None], views, 1)
    assert float(losses.nt_xent(z, 0.07)) < 1e-4


def test_the_gradient_in_blocks_is_that_of_autodiff(monkeypatch):
    z = np.random.default_rng(0).normal(size=(12, 3, 4))

    def plain(z):
        z = l2_normalise(z)
        scores = jnp.einsum("bvd,cwd->bvcw", z, z) / 0.2
        same = jnp.eye(12, dtype=bool)[:, None, :, None]
        negatives = jax.nn.logsumexp(jnp.where(same, -jnp.inf, scores), (2, 3))
        costs = jax.nn.softplus(negatives[:, :, None] - jnp.einsum("bvbw->bvw", scores))
        return jnp.mean(costs[:, ~np.eye(3, dtype=bool)])

    expected = jax.value_and_grad(plain)(z)
    for block in (10**6, 300, 40):
        monkeypatch.setattr(losses, "BLOCK", block)
        ours = jax.value_and_grad(partial(losses.nt_xent, temperature=0.2))(z)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), ours, expected)


def test_similarities_are_not_kept():
    """At batch 2048 all of them at once would be 64 MB, and their gradient as much again."""
    z = jax.ShapeDtypeStruct((2048, 2, 16), jnp.float32)
    compiled = jax.jit(jax.grad(partial(losses.nt_xent, temperature=0.5))).lower(z).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 40e6


@pytest.mark.parametrize("temperature", [losses.LEAST_TEMPERATURE, 0.5])
def test_the_least_temperature_is_finite_in_float32(temperature):
    """Views that agree, of images that are opposite: the smallest sums of negatives that there are."""
    z = np.array([[[1.0], [1.0]], [[-1.0], [-1.0]]], np.float32)
    value, gradient = jax.value_and_grad(losses.nt_xent)(z, temperature)
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [losses.byol, losses.simsiam, partial(losses.moco, temperature=0.2)])
def test_targets_get_no_gradient(loss, golden):
    assert not np.any(jax.grad(loss, 1)(golden["z"], golden["other"]))


def pairwise(loss, z):
    v = z.shape[1]
    pairs = [(i, j) for i in range(v) for j in range(i + 1, v)]
    return np.mean([float(loss(z[:, pair])) for pair in map(np.array, pairs)])


@pytest.mark.parametrize(
    "loss",
    [
        partial(losses.barlow_twins, redundancy=0.01),
        partial(losses.vicreg, invariance=25.0, variance=25.0, covariance=1.0),
        lambda z: losses.byol(z, z**2),
        lambda z: losses.simsiam(z, z**2),
        lambda z: losses.moco(z, z**2, 0.2),
    ],
)
def test_more_views_cost_the_mean_over_their_pairs(loss):
    z = np.random.default_rng(3).normal(size=(7, 4, 5))
    assert float(loss(z)) == pytest.approx(pairwise(loss, z), rel=1e-9)
