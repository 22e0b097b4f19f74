"""Shares, partners and targets of mixup and CutMix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxhw.vision.augment import mixing

MIX = jax.jit(mixing.mix, static_argnums=(3, 4, 5))

BATCH, SIZE = 2000, 32


@pytest.fixture(scope="module")
def batch() -> tuple[jax.Array, jax.Array]:
    """Alternately black and white images, each with its own colour's class: a mixture's mean is the share of white."""
    labels = jnp.arange(BATCH) % 2
    return jnp.broadcast_to(labels[:, None, None, None] * 1.0, (BATCH, SIZE, SIZE, 1)), jax.nn.one_hot(labels, 2)


def own_share(images: jax.Array) -> np.ndarray:
    """How much of itself each image of ``batch`` has kept: [b]."""
    white = np.asarray(images).mean((1, 2, 3))
    return np.where(np.arange(BATCH) % 2, white, 1 - white)


def test_smooth():
    np.testing.assert_allclose(mixing.smooth(jnp.array([2, 0]), 4, 0.1)[0], [0.025, 0.025, 0.925, 0.025])
    np.testing.assert_array_equal(mixing.smooth(jnp.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])


def test_cutmix_targets_are_the_pasted_area_exactly(batch):
    images, targets = jax.jit(mixing.cutmix, static_argnums=3)(jax.random.key(0), *batch, 1.0)
    share = own_share(images)
    np.testing.assert_array_equal(np.unique(images), [0, 1])
    np.testing.assert_allclose(targets[jnp.arange(BATCH), jnp.arange(BATCH) % 2], share, atol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    # The clipped box keeps more than the 0.5 that Beta(1, 1) draws: 0.689 at 32 pixels.
    assert abs(share.mean() - 0.689) < 5 * share.std() / np.sqrt(BATCH)
    assert len(np.unique(share)) > 200  # its own lambda for each image


def test_cutmix_pastes_one_box_from_the_image_before():
    images = jnp.arange(64.0)[:, None, None, None] * jnp.ones((64, 20, 28, 3))
    mixed = np.asarray(jax.jit(mixing.cutmix, static_argnums=3)(jax.random.key(1), images, jnp.zeros((64, 2)), 1.0)[0])
    for i, picture in enumerate(mixed):
        pasted = picture[..., 0] != i
        assert (picture[pasted] == (i - 1) % 64).all()
        rows, columns = pasted.any(1), pasted.any(0)
        assert (pasted == rows[:, None] & columns[None]).all()
        assert (np.diff(np.flatnonzero(rows)) == 1).all() and (np.diff(np.flatnonzero(columns)) == 1).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_draws_a_beta_for_each_image(batch, alpha):
    images, targets = jax.jit(mixing.mixup, static_argnums=3)(jax.random.key(2), *batch, alpha)
    np.testing.assert_allclose(np.ptp(images, axis=(1, 2, 3)), 0, atol=1e-6)
    share = own_share(images)
    np.testing.assert_allclose(targets[jnp.arange(BATCH), jnp.arange(BATCH) % 2], share, atol=1e-5)
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 5 * np.sqrt(variance / BATCH)
    np.testing.assert_allclose(share.var(), variance, rtol=0.1)


def test_beta_quantile():
    probability = np.linspace(0.002, 0.998, 3001)  # the table's first and last steps are coarser
    for alpha in (0.1, 0.2, 1.0, 4.0):
        ours = mixing.beta_quantile(jnp.asarray(probability), alpha)
        np.testing.assert_allclose(ours, stats.beta.ppf(probability, alpha, alpha), atol=2e-3)
        np.testing.assert_array_equal(mixing.beta_quantile(jnp.array([0.0, 1.0]), alpha), [0, 1])


def test_mix_chooses_for_each_image(batch):
    images, targets = MIX(jax.random.key(3), *batch, 1.0, 1.0, 0.6)
    untouched = np.asarray(targets).max(1) == 1
    uniform = np.ptp(images, axis=(1, 2, 3)) < 1e-6
    # 0.4 are left alone, and a few boxes are empty
    assert abs(untouched.mean() - 0.4) < 0.06
    assert abs((~uniform).mean() - 0.3) < 0.06  # cutmix
    assert abs((uniform & ~untouched).mean() - 0.3) < 0.06  # mixup
    np.testing.assert_allclose(targets[jnp.arange(BATCH), jnp.arange(BATCH) % 2], own_share(images), atol=1e-5)


def test_mix_of_one_kind_or_none(batch):
    assert set(np.unique(MIX(jax.random.key(4), *batch, 0.0, 1.0, 1.0)[0])) == {0, 1}
    assert np.ptp(MIX(jax.random.key(4), *batch, 1.0, 0.0, 1.0)[0], axis=(1, 2, 3)).max() < 1e-6
    images, targets = mixing.mix(jax.random.key(4), *batch, 0.0, 0.0)
    assert images is batch[0] and targets is batch[1]
