"""What is drawn, and the pipeline that the options build."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxhw.errors import UserError
from jaxhw.options import defaults
from jaxhw.vision.augment import autoaugment, color, filters, geometry, standard

SIZE = 32


def over(f, *arguments):
    """``f`` for each entry of the arguments, compiled."""
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(f))(*arguments))


def keys(n: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), n)


@pytest.fixture(scope="module")
def images() -> jax.Array:
    """64 smooth colour images with noise, uint8."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (64, 8, 8, 3))
    fine = coarse.repeat(4, 1).repeat(4, 2) + rng.normal(0, 10, (64, SIZE, SIZE, 3))
    return jnp.asarray(fine.clip(0, 255), jnp.uint8)


@pytest.fixture(scope="module")
def floats(images) -> jax.Array:
    return images.astype(jnp.float32) / 255


def uniform(counts: np.ndarray) -> bool:
    """No evidence, at one in ten thousand, that the counts are not uniform."""
    return stats.chisquare(counts).pvalue > 1e-4


def test_pad_crop_cuts_every_window_equally_often():
    pad, n = 2, 5000
    image = jnp.arange(1.0, 6 * 5 + 1).reshape(6, 5, 1)
    crops = over(lambda key: geometry.pad_crop(key, image, pad), keys(n))[..., 0]
    padded = np.pad(np.asarray(image)[..., 0], pad)
    counts = np.zeros((5, 5), int)
    for top, left in itertools.product(range(5), range(5)):
        counts[top, left] = (crops == padded[top : top + 6, left : left + 5]).all((1, 2)).sum()
    assert counts.sum() == n
    assert uniform(counts.ravel())


def test_flip_mirrors_half_of_the_images(images):
    flipped = over(lambda key: geometry.flip(key, images[0]), keys(4000))
    is_flipped = (flipped == np.asarray(images[0])[:, ::-1]).all((1, 2, 3))
    is_same = (flipped == np.asarray(images[0])).all((1, 2, 3))
    assert (is_flipped ^ is_same).all()
    assert abs(is_flipped.mean() - 0.5) < 0.04


def test_jitter_draws_factors_and_all_orders_uniformly(monkeypatch):
    monkeypatch.setattr(color, "jitter_in_order", lambda image, factors, order: (factors, order))
    factors, orders = over(lambda key: color.color_jitter(key, None, 0.4, 1.5, 0.2, 0.1), keys(4800))
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert uniform(counts)
    for drawn, low, high in zip(factors.T, (0.6, 0.0, 0.8, -0.1), (1.4, 2.5, 1.2, 0.1), strict=True):
        assert stats.kstest(drawn, stats.uniform(low, high - low).cdf).pvalue > 1e-4


def test_jitter_varies_within_a_batch_and_stays_in_range(floats):
    same = jnp.broadcast_to(floats[0], floats.shape)
    out = over(lambda k, x: color.color_jitter(k, x, 0.8, 0.8, 0.8, 0.2), keys(64), same)
    assert len(np.unique(out.reshape(64, -1), axis=0)) == 64
    assert out.min() >= 0 and out.max() <= 1


def test_resized_crop_ignores_what_lies_outside(floats):
    box, image = (5, 7, 13, 10), floats[0]
    inside = np.asarray(geometry.box_mask(*box, SIZE, SIZE))[..., None]
    for method in ("bilinear", "bicubic"):
        pair = jnp.stack([image, jnp.where(inside, image, 1e6)])
        one, other = over(partial(geometry.resized_crop, box=box, size=(SIZE, SIZE), method=method), pair)
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(geometry.resized_crop(image, (0, 0, SIZE, SIZE), (SIZE, SIZE)), image, atol=1e-6)


def test_crop_box_falls_back_to_the_centre():
    # No box of 90 % of a 10 x 100 image has a ratio near 1.
    box = geometry.crop_box(jax.random.key(0), 10, 100, (0.9, 1.0), (3 / 4, 4 / 3))
    assert [int(x) for x in box] == [0, 43, 10, 13]
    box = geometry.crop_box(jax.random.key(0), 100, 10, (0.9, 1.0), (3 / 4, 4 / 3))
    assert [int(x) for x in box] == [43, 0, 13, 10]


def test_erasing_happens_as_often_as_asked(floats):
    white = jnp.ones((SIZE, SIZE, 3))
    erased = over(lambda key: geometry.random_erasing(key, white, 0.25), keys(4000))
    area = 1 - erased.mean((1, 2, 3))
    assert abs((area > 0).mean() - 0.25) < 0.03
    assert area[area > 0].min() > 0.01 and area.max() < 0.35
    assert abs(area[area > 0].mean() - 0.175) < 0.015


def test_auto_augmentations_choose_uniformly(monkeypatch):
    monkeypatch.setattr(autoaugment, "apply", lambda image, operation, strength: image.at[operation].add(1))
    counts = over(lambda key: autoaugment.rand_augment(key, jnp.zeros((14, 1, 1)), 3), keys(2000))
    assert (counts.sum((1, 2, 3)) == 3).all()
    assert uniform(counts.sum((0, 2, 3)))

    monkeypatch.setattr(autoaugment, "apply", lambda image, operation, strength: (operation, strength))
    operation, strength = over(lambda key: autoaugment.trivial_augment(key, None), keys(9000))
    assert uniform(np.bincount(operation))
    rotation = strength[operation == autoaugment.OPERATIONS.index("rotate")]
    assert len(np.unique(rotation)) == 61  # 30 strengths each way, and none
    assert abs((rotation > 0).mean() - 0.5) < 0.1
    assert (strength[operation == autoaugment.OPERATIONS.index("solarize")] >= 0).all()


def test_blur_keeps_the_mean_of_a_constant(floats):
    np.testing.assert_allclose(filters.gaussian_blur(jnp.full((9, 7, 3), 0.3), 1.5, 5), 0.3, atol=1e-6)


@pytest.fixture(scope="module")
def everything() -> dict:
    return {
        "crop": "resized",
        "flip": True,
        "auto": "randaugment",
        "jitter": (0.4, 0.4, 0.4, 0.1),
        "erasing": 0.5,
    }


def test_pipeline_of_everything(images, everything):
    f = jax.jit(standard.standard(everything))
    out = f(keys(64), images)
    assert out.shape == images.shape and out.dtype == jnp.float32
    assert out.min() >= 0 and out.max() <= 1
    # An image's result depends on its own key alone.
    other = f(keys(64), images[::-1].at[5].set(images[5]))
    np.testing.assert_allclose(other[5], out[5], atol=1e-5)
    assert not np.allclose(f(keys(64, seed=1), images), out, atol=0.1)


def test_default_options_change_nothing(images, floats):
    out = standard.standard(defaults(standard.Standard))(keys(64), images)
    np.testing.assert_array_equal(out, floats)


def test_pad_and_flip_only_move_pixels(images):
    out = jax.jit(standard.standard({"crop": "pad", "flip": True, "pad": 2}))(keys(64), images + 1)
    levels = np.round(np.asarray(out) * 255).astype(np.uint8)
    np.testing.assert_allclose(levels / 255.0, out, atol=1e-6)
    assert all(np.isin(mine, np.append(theirs, 0)).all() for mine, theirs in zip(levels, images + 1, strict=True))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("crop", "center"),
        ("auto", "autoaugment"),
        ("colour", 1),
        ("erasing", 1.5),
        ("mixup", -0.1),
        ("jitter", (0.4, 0.4, 0.4)),
        ("jitter", (0.4, 0.4, 0.4, 0.6)),
        ("crop_scale", (1.0, 0.08)),
        ("randaugment_magnitude", 31),
    ],
)
def test_wrong_options_are_named(option, value):
    with pytest.raises(UserError, match=rf"config\.augment\.{option}(=.* must be | is no option; choose from crop, )"):
        standard.standard({option: value})


def test_normalise_standardises():
    mean, deviation = standard.STATISTICS["cifar100"]
    image = jnp.array([mean, jnp.array(mean) + jnp.array(deviation)])
    np.testing.assert_allclose(standard.normaliser("cifar100")(image), [[0, 0, 0], [1, 1, 1]], atol=1e-6)
    np.testing.assert_array_equal(standard.normaliser("none")(image), image)
    with pytest.raises(UserError, match=r"config\.normalise='mnist' must be one of none, "):
        standard.normaliser("mnist")
