"""Every form of a histogram and of a look-up gives the same numbers, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.vision.augment import color, levels


@pytest.fixture
def numbers():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1000, 3))
    return jnp.stack([pixels[:, 0], np.full(1000, 255), pixels[:, 2] // 100], 1)


@pytest.mark.parametrize("form", [levels.histogram, levels.histogram_by_adding, levels.histogram_by_products])
def test_histogram(form, numbers):
    expected = [np.bincount(channel, minlength=256) for channel in np.asarray(numbers.T)]
    np.testing.assert_array_equal(form(numbers), expected)


@pytest.mark.parametrize("form", [levels.look_up, levels.look_up_by_reading, levels.look_up_by_products])
def test_look_up(form, numbers):
    table = np.random.default_rng(1).permuted(np.tile(np.arange(256.0, dtype=np.float32), (3, 1)), axis=1)
    expected = np.stack([table[c][np.asarray(numbers[:, c])] for c in range(3)], 1)
    np.testing.assert_array_equal(form(jnp.asarray(table), numbers), expected)


def test_equalize_is_the_same_in_both_forms(monkeypatch):
    images = np.random.default_rng(2).beta(2, 5, (4, 32, 24, 3)).astype(np.float32)
    images[0, ..., 1] = 0.25
    here = jax.jit(jax.vmap(color.equalize))(images)
    monkeypatch.setattr(levels, "histogram", levels.histogram_by_products)
    monkeypatch.setattr(levels, "look_up", levels.look_up_by_products)
    np.testing.assert_array_equal(jax.jit(jax.vmap(color.equalize))(images), here)
