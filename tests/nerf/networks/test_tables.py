"""Every platform's form of reading a table and of its gradient gives the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.networks import tables


@pytest.fixture(scope="module", params=[8, 4])
def read(request):
    """(table, rows, fraction, gradient) of cells read corner by corner, and in windows of two rows."""
    windows, rng = request.param, np.random.default_rng(0)
    rows = rng.integers(0, 50 - 8 // windows + 1, (40, windows)).astype(np.int32)
    rows[:20] = rows[20:]  # several points read the same rows
    fraction = rng.random((40, 3), np.float32)
    return rng.normal(size=(50, 3)).astype(np.float32), rows, fraction, rng.normal(size=(40, 3)).astype(np.float32)


def plain(table, rows, fraction):
    """By its definition: each corner times the product of its three shares."""
    index = (rows[..., None] + np.arange(8 // rows.shape[1])).reshape(-1, 2, 2, 2)
    x, y, z = jnp.moveaxis(jnp.stack([1 - fraction, fraction], -1), 1, 0)
    return jnp.einsum("kijlc,ki,kj,kl->kc", jnp.asarray(table)[index], x, y, z)


def test_reading(read):
    table, rows, fraction, _ = read
    wanted, weights = plain(table, rows, fraction), tables.weights_of(fraction, rows.shape[1])
    np.testing.assert_allclose(weights.sum((1, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(tables.interpolate(table, rows, fraction), wanted, atol=1e-5)
    np.testing.assert_allclose(tables._read_on_tpu(jnp.asarray(table), rows, weights), wanted, atol=1e-5)


@pytest.mark.parametrize("small", [0, 1000])
def test_gradients(read, small, monkeypatch):
    monkeypatch.setattr(tables, "SMALL", small)
    table, rows, fraction, gradient = read
    wanted = jax.grad(lambda t, f: (plain(t, rows, f) * gradient).sum(), (0, 1))(table, fraction)
    ours = jax.grad(lambda t, f: (tables.interpolate(t, rows, f) * gradient).sum(), (0, 1))(table, fraction)
    for a, b in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    weights = tables.weights_of(fraction, rows.shape[1])
    on_tpu = tables._add_on_tpu(jnp.asarray(rows), weights, jnp.asarray(gradient), len(table))
    np.testing.assert_allclose(on_tpu, wanted[0], atol=1e-5)


def test_the_gradient_has_a_gradient(read):
    """By which learnt normals can be held against those of the density."""
    table, rows, fraction, gradient = read
    bent = lambda read_: jax.grad(lambda f: (jnp.sin(read_(table, rows, f)) * gradient).sum())
    twice = lambda read_: jax.grad(lambda f: (bent(read_)(f) ** 2).sum())(fraction)
    np.testing.assert_allclose(twice(tables.interpolate), twice(plain), atol=1e-4)
