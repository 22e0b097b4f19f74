"""Losses against brute force and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.rendering import losses


def test_distortion_is_its_double_sum():
    rng = np.random.default_rng(0)
    w, m, d = rng.random((3, 9)), np.sort(rng.random((3, 9))), rng.random((3, 9))
    between = np.einsum("ri,rj,rij->r", w, w, np.abs(m[:, :, None] - m[:, None]))
    wanted = between + (w**2 * d).sum(-1) / 3
    np.testing.assert_allclose(losses.distortion_loss(*map(jnp.asarray, (w, m, d))), wanted, rtol=1e-5)


def test_entropy_is_largest_for_rays_half_open():
    seen = losses.background_entropy(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(seen, [1.48e-5, np.log(2), 1.48e-5], rtol=2e-2)
    slope = jax.vmap(jax.grad(lambda p: losses.background_entropy(p)))(jnp.array([0.0, 0.3, 0.5, 0.7, 1.0]))
    assert jnp.isfinite(slope).all() and slope[1] > 0 > slope[3] and abs(slope[2]) < 1e-6


def test_per_point_colours_leave_the_weights_alone():
    loss = lambda w, c: losses.per_point_colour(w, c, jnp.zeros((4, 3))).sum()
    w, c = jnp.arange(1.0, 5.0), jnp.ones((4, 3)) * 0.5
    np.testing.assert_allclose(loss(w, c), 10 * 0.75)
    dw, dc = jax.grad(loss, (0, 1))(w, c)
    np.testing.assert_array_equal(dw, 0)
    np.testing.assert_allclose(dc, w[:, None] * jnp.ones(3))


def test_total_variation_has_dvgos_gradient():
    """Each voxel: a sixth of the differences to its neighbours, clipped to [-1, 1]."""
    shape = (3, 4, 2)
    grid = np.random.default_rng(0).normal(size=shape) * 2
    number = np.arange(grid.size).reshape(shape)
    following = np.stack(
        [
            np.concatenate([np.take(number, range(1, n), a), np.take(number, [n - 1], a)], a)
            for a, n in enumerate(shape)
        ],
        -1,
    ).reshape(-1, 3)
    gradient = jax.grad(losses.total_variation)(jnp.asarray(grid.reshape(-1, 1)), jnp.asarray(following))
    wanted = np.zeros(shape)
    for here in np.ndindex(shape):
        for axis in range(3):
            for side in (-1, 1):
                there = tuple(np.array(here) + side * (np.arange(3) == axis))
                if 0 <= there[axis] < shape[axis]:
                    wanted[here] += np.clip(grid[here] - grid[there], -1, 1) / 6
    np.testing.assert_allclose(gradient[:, 0].reshape(shape), wanted, atol=1e-6)


@pytest.mark.parametrize(("mse", "decibel"), [(1.0, 0), (0.01, 20), (1e-4, 40)])
def test_psnr(mse, decibel):
    assert losses.psnr(jnp.array(mse)) == pytest.approx(decibel, abs=1e-4)
