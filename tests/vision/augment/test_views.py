"""Which operations a view meets, in which order and how often. What each of them does is tested with the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxhw.errors import UserError
from jaxhw.vision.augment import color, filters, geometry, views

OFF = {"crop_scale": (1.0, 1.0), "flip": 0.0, "jitter_probability": 0.0, "gray": 0.0, "blur": (0.0,)}
N = 600


def draw(options, count=2, images=None, seed=0):
    images = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), np.uint8) if images is None else images
    keys = jax.random.split(jax.random.key(seed), len(images))
    made = jax.jit(views.pipeline(options, count))(keys, images)
    return np.asarray(made), images[:, None].astype(np.float32) / 255


def changed(made, images):
    """Which views [n, v] differ from their image."""
    return np.abs(made - images).max((2, 3, 4)) > 1e-3


def near(share, probability):
    return abs(share - probability) < 5 * np.sqrt(0.25 / N)


def test_nothing_changes_where_all_is_off():
    made, images = draw(OFF, 3)
    assert made.shape == (N, 3, 8, 8, 3) and made.dtype == np.float32
    np.testing.assert_allclose(made, np.broadcast_to(images, made.shape), atol=1e-6)


def test_each_view_has_its_own_probability_of_blur_and_solarization():
    """Of three views the third is as the first again."""
    made, images = draw({**OFF, "solarize": (0.0, 0.25)}, 3)
    share = changed(made, images).mean(0)
    assert share[0] == share[2] == 0 and near(share[1], 0.25)
    hit = changed(made, images)[:, 1]
    inverted = np.where(images >= 0.5, 1 - images, images)[:, 0]
    np.testing.assert_allclose(made[hit, 1], inverted[hit], atol=1e-5)
    made, images = draw({**OFF, "blur": (1.0, 0.1), "blur_kernel": 3, "blur_sigma": (0.5, 2.0)})
    share = changed(made, images).mean(0)
    assert share[0] == 1 and near(share[1], 0.1)


def test_the_others_come_as_often_as_asked():
    for name, probability in (("flip", 0.3), ("gray", 0.2), ("jitter_probability", 0.8)):
        made, images = draw({**OFF, name: probability})
        share = changed(made, images).mean(0)
        assert near(share[0], probability) and near(share[1], probability), name
    made, _ = draw({**OFF, "gray": 1.0})
    assert np.ptp(made, -1).max() < 1e-6


def test_views_are_drawn_apart_and_repeatably():
    made, _ = draw(views.SIMCLR_CIFAR)
    again, _ = draw(views.SIMCLR_CIFAR)
    other, _ = draw(views.SIMCLR_CIFAR, seed=1)
    np.testing.assert_array_equal(made, again)
    assert (made[:, 0] != made[:, 1]).any((1, 2, 3)).mean() > 0.99 and (made != other).any((2, 3, 4)).mean() > 0.99
    assert made.min() >= 0 and made.max() <= 1
    same = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8), N, 0)
    made, _ = draw(views.SIMCLR_CIFAR, images=same)
    assert (
        len(np.unique(made.reshape(2 * N, -1).round(4), axis=0)) > 0.9 * 2 * N
    )  # without jitter, few crops of 8 pixels exist


@pytest.mark.parametrize("last", [False, True])
def test_the_order_of_the_operations(monkeypatch, last):
    order = []
    for module, name in (
        (geometry, "random_resized_crop"),
        (color, "color_jitter"),
        (color, "luma"),
        (filters, "gaussian_blur"),
        (color, "solarize"),
    ):
        image_at = 1 if name in ("random_resized_crop", "color_jitter") else 0
        monkeypatch.setattr(module, name, lambda *args, name=name, at=image_at, **_: (order.append(name), args[at])[1])
    options = views.Views(solarize=(0.5,), crop_last=last)
    views.draw_view(options, jax.random.key(0), jnp.zeros((32, 32, 3)), 0.5, 0.5)
    rest = ["color_jitter", "luma", "gaussian_blur", "solarize"]
    assert order == ([*rest, "random_resized_crop"] if last else ["random_resized_crop", *rest])


@pytest.mark.parametrize(("size", "kernel"), [(32, 3), (64, 7), (96, 9), (224, 23)])
def test_the_blur_is_a_tenth_of_the_image(monkeypatch, size, kernel):
    used = []
    monkeypatch.setattr(filters, "gaussian_blur", lambda image, sigma, k: (used.append((sigma, k)), image)[1])
    views.draw_view(views.Views(**{**OFF, "blur": (1.0,)}), jax.random.key(3), jnp.zeros((size, size, 3)), 1.0, 0.0)
    assert used[0][1] == kernel and 0.1 <= float(used[0][0]) <= 2.0


def test_the_blur_s_width_is_uniform(monkeypatch):
    monkeypatch.setattr(filters, "gaussian_blur", lambda image, sigma, k: jnp.full_like(image, sigma))
    options = views.Views(**{**OFF, "blur": (1.0,), "crop_scale": (1.0, 1.0)})
    blur = lambda key: views.draw_view(options, key, jnp.zeros((8, 8, 3)), 1.0, 0.0)[0, 0, 0]
    sigmas = np.asarray(jax.vmap(blur)(jax.random.split(jax.random.key(0), 2000)))
    assert stats.kstest(sigmas, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    ("options", "count", "message"),
    [
        ({}, 1, "config.views=1"),
        ({"blurr": 1.0}, 2, "config.augment.blurr is no option; choose from crop_scale, "),
        ({"blur": 0.5}, 2, "config.augment.blur=0.5 must be a tuple of one number or more, each from 0 to 1"),
        ({"blur": (0.5, 1.5)}, 2, "augment.blur"),
        ({"gray": -0.1}, 2, "augment.gray"),
        ({"crop_scale": (0.5, 0.1)}, 2, "augment.crop_scale"),
        ({"crop_scale": (0.5,)}, 2, "augment.crop_scale"),
        ({"blur_sigma": (0.0, 1.0)}, 2, "augment.blur_sigma"),
        ({"blur_kernel": 4}, 2, "augment.blur_kernel"),
        ({"jitter": (0.4, 0.4, 0.4, 0.6)}, 2, "augment.jitter"),
        (
            {"jitter": ("a", 0, 0, 0)},
            2,
            "config.augment.jitter=('a', 0, 0, 0) must be a tuple of 4 numbers, each of at least 0",
        ),
        ({"jitter": (0.4, float("nan"), 0.4, 0.1)}, 2, "augment.jitter"),
        ({"blur": ("x",)}, 2, "config.augment.blur=('x',) must be a tuple of one number or more"),
        ({"crop_scale": ("x", "y")}, 2, "augment.crop_scale"),
        ({"interpolation": "nearest"}, 2, "augment.interpolation"),
    ],
)
def test_bad_options_are_one_line(options, count, message):
    with pytest.raises(UserError) as caught:
        views.pipeline(options, count)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_blur_may_be_as_wide_as_the_mirror_image_and_no_wider():
    options = {**views.SIMCLR, "blur": (1.0,)}
    white = np.ones((8, 8, 3), np.float32)
    views.check_size({**options, "blur_kernel": 15}, 8)
    np.testing.assert_allclose(filters.gaussian_blur(white, 2.0, 15), white, atol=1e-6)
    with pytest.raises(UserError, match=r"^config\.augment\.blur_kernel=17 must be at most 15 for images of 8 pixels$"):
        views.check_size({**options, "blur_kernel": 17}, 8)
    views.check_size({**options, "blur": (0.0,), "blur_kernel": 17}, 8)
