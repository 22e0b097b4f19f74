"""Every operation against torchvision with the same parameters (tests/golden/augment.py)."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.vision.augment import autoaugment, color, filters, geometry
from tests.golden import FOLDER as GOLDEN_FOLDER


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN_FOLDER / "augment.npz"))


@pytest.fixture(scope="module")
def image(golden) -> jax.Array:
    return jnp.asarray(golden["image"], jnp.float32) / 255


@pytest.mark.parametrize(
    ("name", "operation", "parameters"),
    [
        ("brightness", color.adjust_brightness, (0.3, 1.6)),
        ("contrast", color.adjust_contrast, (0.3, 1.6)),
        ("saturation", color.adjust_saturation, (0.3, 1.6)),
        ("sharpness", color.adjust_sharpness, (0.3, 1.6)),
        ("hue", color.adjust_hue, (-0.5, -0.23, 0.0, 0.1, 0.5)),
        ("solarize", color.solarize, (0.25, 0.5)),
    ],
)
def test_adjustments(golden, image, name, operation, parameters):
    ours = jax.jit(jax.vmap(operation, in_axes=(None, 0)))(image, jnp.array(parameters))
    np.testing.assert_allclose(ours, golden[name], atol=1e-5)


def test_grayscale(golden, image):
    np.testing.assert_allclose(color.grayscale(image), golden["grayscale"][0], atol=1e-6)


def test_jitter_in_all_24_orders(golden, image):
    orders = jnp.array(list(itertools.permutations(range(4))))
    factors = jnp.array([1.3, 0.6, 1.7, 0.2])

    @jax.jit
    @jax.vmap
    def jitter(order):
        # The golden images are 5 x 6 to keep the file small.
        whole = (0, 0, *image.shape[:2])
        return geometry.resized_crop(color.jitter_in_order(image, factors, order), whole, (5, 6))

    ours = jitter(orders)
    np.testing.assert_allclose(ours, golden["jitter"], atol=1e-5)
    distances = np.abs(golden["jitter"][:, None] - golden["jitter"]).max((2, 3, 4))
    assert np.median(distances) > 0.05  # the orders can be told apart


def test_blur(golden, image):
    for expected, (size, sigma) in zip(golden["blur"], ((3, 0.6), (5, 1.0), (9, 2.0), (15, 1.7)), strict=True):
        np.testing.assert_allclose(filters.gaussian_blur(image, sigma, size), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_resized_crop(golden, image, method):
    crop = jax.jit(jax.vmap(partial(geometry.resized_crop, size=(12, 15), method=method), in_axes=(None, 0)))
    ours = crop(image, tuple(jnp.asarray(golden["boxes"]).T))
    np.testing.assert_allclose(ours, golden[f"crop_{method}"], atol=1e-5)


def test_equalize_and_autocontrast_with_a_constant_channel(golden):
    image = jnp.asarray(golden["big"], jnp.float32) / 255
    assert np.ptp(golden["big"][..., 1]) == 0
    np.testing.assert_array_equal(np.round(jax.jit(color.equalize)(image) * 255), golden["big_equalize"])
    np.testing.assert_allclose(color.autocontrast(image)[..., ::2], golden["big_autocontrast"], atol=1e-6)
    np.testing.assert_array_equal(color.autocontrast(image)[..., 1], image[..., 1])


def test_auto_operations(golden, image):
    apply = jax.jit(jax.vmap(autoaugment.apply, in_axes=(None, 0, 0)))
    ours = apply(image, golden["auto_code"], golden["auto_strength"])
    assert set(golden["auto_code"]) == set(range(14))
    for code, strength, mine, theirs in zip(
        golden["auto_code"], golden["auto_strength"], np.asarray(ours), golden["auto"], strict=True
    ):
        wrong = np.mean(np.abs(mine - theirs).max(-1) > 1e-5)
        # Nearest neighbours that are equally near may round either way.
        allowed = 0.01 if autoaugment.OPERATIONS[code] in ("shear_x", "shear_y", "rotate") else 0
        assert wrong <= allowed, (autoaugment.OPERATIONS[code], strength, wrong)


def test_magnitude_tables(golden, image):
    np.testing.assert_allclose(autoaugment.rand_magnitudes(*image.shape[:2]), golden["rand_table"], atol=1e-4)
    np.testing.assert_allclose(autoaugment.trivial_magnitudes(), golden["trivial_table"], atol=1e-4)


def test_boxes_are_drawn_as_torchvision_draws_them(golden, image):
    height, width, _ = image.shape
    keys = jax.random.split(jax.random.key(0), 20000)
    draw = jax.jit(jax.vmap(lambda key: geometry.crop_box(key, height, width, (0.08, 1.0), (3 / 4, 4 / 3))))
    boxes = draw(keys)
    compare_moments(np.stack(boxes, 1), golden["crop_boxes"])


def test_erased_boxes_are_drawn_as_torchvision_draws_them(golden, image):
    keys = jax.random.split(jax.random.key(1), 20000)
    white = jnp.ones((*image.shape[:2], 1))
    erased = jax.jit(jax.vmap(lambda key: geometry.random_erasing(key, white, 1.0)))(keys)
    rows, columns = np.asarray(erased)[..., 0].min(2) == 0, np.asarray(erased)[..., 0].min(1) == 0
    boxes = np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], 1)
    area = 1 - np.asarray(erased).mean((1, 2, 3))
    np.testing.assert_allclose(area, boxes[:, 2] * boxes[:, 3] / rows.shape[1] / columns.shape[1], atol=1e-6)
    compare_moments(boxes, golden["erase_boxes"])


def compare_moments(boxes: np.ndarray, moments: np.ndarray) -> None:
    """Means within five standard errors (of 20,000 and 40,000 draws), deviations within 3 %."""
    mean, deviation = moments
    assert (np.abs(boxes.mean(0) - mean) < 5 * deviation * np.sqrt(1 / 20000 + 1 / 40000)).all()
    np.testing.assert_allclose(boxes.std(0), deviation, rtol=0.03)
