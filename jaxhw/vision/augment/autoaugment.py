"""RandAugment (Cubuk et al. 2019, arXiv:1909.13719) and TrivialAugment (Müller & Hutter 2021, arXiv:2103.10158).

torchvision's operations and magnitudes, on one image [h, w, 3] of floats in [0, 1]. Moves are nearest neighbour with
black outside. Blends are not rounded to bytes in between, as torchvision on uint8 would.

Under ``jax.vmap`` a switch computes every branch, so the fourteen operations are written as few: one blend and one
affine move, whose parameters are neutral unless they are chosen, and a selection among the other four. An operation is
its number in OPERATIONS; a strength is in the units of ``apply``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.vision.augment import color, filters, geometry

Array = jax.Array
BINS = 31  # strengths of an operation, from none to the largest
OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
_CODE = {name: i for i, name in enumerate(OPERATIONS)}


def rand_magnitudes(height: int, width: int) -> np.ndarray:
    """RandAugment's strengths [operation, bin] for images of this size, in the units of ``apply``."""
    return _magnitudes(0.3, (150 / 331 * width, 150 / 331 * height), 30.0, 0.9, 4)


def trivial_magnitudes() -> np.ndarray:
    """TrivialAugment's "wide" strengths [operation, bin]."""
    return _magnitudes(0.99, (32.0, 32.0), 135.0, 0.99, 6)


def _magnitudes(shear: float, translate: tuple[float, float], rotate: float, blend: float, bits: int) -> np.ndarray:
    """From nothing to the given extremes: slope, pixels, degrees, change of factor, bits dropped."""
    ramp = np.linspace(0.0, 1.0, BINS)
    rows = dict.fromkeys(OPERATIONS, np.zeros(BINS))
    rows |= dict.fromkeys(("shear_x", "shear_y"), shear * ramp)
    rows |= {"translate_x": translate[0] * ramp, "translate_y": translate[1] * ramp, "rotate": rotate * ramp}
    rows |= dict.fromkeys(("brightness", "color", "contrast", "sharpness"), blend * ramp)
    rows |= {"posterize": 8 - np.round(bits * ramp), "solarize": 255 * (1 - ramp)}
    return np.stack([rows[name] for name in OPERATIONS]).astype(np.float32)


def rand_augment(key: Array, image: Array, n: int = 2, magnitude: int = 9) -> Array:
    """RandAugment: ``n`` random operations one after the other, all with the strength ``magnitude`` (0 to 30)."""
    table = jnp.asarray(rand_magnitudes(*image.shape[:2])[:, magnitude])

    def step(image: Array, draws: Array) -> tuple[Array, None]:
        operation = _operation(draws[0])
        return apply(image, operation, _signed(draws[1], operation, table[operation])), None

    return jax.lax.scan(step, image, jax.random.uniform(key, (n, 2)))[0]


def trivial_augment(key: Array, image: Array) -> Array:
    """TrivialAugment: one random operation with a random strength (the paper's "wide" ranges)."""
    draws = jax.random.uniform(key, (3,))
    operation = _operation(draws[0])
    strength = jnp.asarray(trivial_magnitudes())[operation, jnp.floor(draws[2] * BINS).astype(jnp.int32)]
    return apply(image, operation, _signed(draws[1], operation, strength))


def _operation(draw: Array) -> Array:
    """A uniform draw in [0, 1) -> an operation."""
    return jnp.floor(draw * len(OPERATIONS)).astype(jnp.int32)


def _signed(draw: Array, operation: Array, strength: Array) -> Array:
    """The strength with a random sign for moves and blends, which go either way."""
    both_ways = (operation >= _CODE["shear_x"]) & (operation <= _CODE["sharpness"])
    return jnp.where(both_ways & (draw < 0.5), -strength, strength)


def apply(image: Array, operation: Array, strength: Array) -> Array:
    """Operation number ``operation`` of OPERATIONS.

    ``strength``: shears as a slope, translations in pixels (whole ones are used), rotation in degrees
    counter-clockwise, blends as factor - 1, posterize in bits, solarize as a level of 255; the rest ignore it.
    """

    def chosen(name: str) -> Array:
        return operation == _CODE[name]

    def where(name: str, neutral: float = 0.0) -> Array:
        return jnp.where(chosen(name), strength, neutral)

    # The blends (brightness, color, contrast, sharpness) are one: with black, grey, the mean grey or a smoothed image.
    # A factor of 1, where none is chosen, leaves the image as it is.
    other = jnp.where(chosen("color"), color.luma(image), jnp.where(chosen("contrast"), color.mean_luma(image), 0.0))
    other = jnp.where(chosen("sharpness"), filters.smoothed(image), other)
    factor = 1.0 + where("brightness") + where("color") + where("contrast") + where("sharpness")
    result = color.blend(image, other, factor)
    # Operations that change values one by one. The threshold of solarize lies between two levels: the same decision
    # for every byte, whatever the division by 255 rounded to.
    threshold = (jnp.ceil(strength) - 0.5) / 255.0
    result = jnp.where(chosen("solarize"), color.solarize(image, threshold), result)
    result = jnp.where(chosen("posterize"), color.posterize(image, strength), result)
    result = jnp.where(chosen("autocontrast"), color.autocontrast(image), result)
    result = jnp.where(chosen("equalize"), color.equalize(image), result)
    # The moves (shears, translations, rotation) are one affine map, the identity where none is chosen.
    return geometry.affine(result, _matrix(where, *image.shape[:2]))


def _matrix(where: Callable[[str], Array], height: int, width: int) -> Array:
    """The map [2, 3] for ``geometry.affine``: shears about the upper left corner, rotation about the centre."""
    shear_x, shear_y = where("shear_x"), where("shear_y")
    angle = jnp.deg2rad(where("rotate"))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    shift_x = shear_x * height / 2 - jnp.trunc(where("translate_x"))
    shift_y = shear_y * width / 2 - jnp.trunc(where("translate_y"))
    return jnp.array([[cos, shear_x - sin, shift_x], [shear_y + sin, cos, shift_y]])
