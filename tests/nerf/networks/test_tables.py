"""Every platform's form of reading a table and of its gradient gives the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.networks import tables


@pytest.fixture(scope="module", params=[(8, 1), (4, 2)])
def read(request):
    (m, n), rng = request.param, np.random.default_rng(0)
    rows = rng.integers(0, 50 - n + 1, (40, m)).astype(np.int32)
    rows[:20] = rows[20:]  # several points read the same rows
    weights = rng.normal(size=(40, m, n)).astype(np.float32)
    return rng.normal(size=(50, 3)).astype(np.float32), rows, weights, rng.normal(size=(40, 3)).astype(np.float32)


def plain(table, rows, weights):
    index = rows[..., None] + np.arange(weights.shape[2])
    return (jnp.asarray(table)[index] * weights[..., None]).sum((1, 2))


def test_reading(read):
    table, rows, weights, _ = read
    wanted = plain(table, rows, weights)
    np.testing.assert_allclose(tables.interpolate(table, rows, weights), wanted, atol=1e-5)
    np.testing.assert_allclose(tables._read_on_tpu(jnp.asarray(table), rows, weights), wanted, atol=1e-5)


@pytest.mark.parametrize("small", [0, 1000])
def test_gradients(read, small, monkeypatch):
    monkeypatch.setattr(tables, "SMALL", small)
    table, rows, weights, gradient = read
    wanted = jax.grad(lambda t, w: (plain(t, rows, w) * gradient).sum(), (0, 1))(table, weights)
    ours = jax.grad(lambda t, w: (tables.interpolate(t, rows, w) * gradient).sum(), (0, 1))(table, weights)
    for a, b in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    on_tpu = tables._add_on_tpu(jnp.asarray(rows), jnp.asarray(weights), jnp.asarray(gradient), len(table))
    np.testing.assert_allclose(on_tpu, wanted[0], atol=1e-5)
