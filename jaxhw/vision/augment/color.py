"""Colour operations on one image [h, w, 3] of floats in [0, 1], equal to torchvision's on float tensors.

Pure and made for ``jax.vmap``: factors may be traced, so that each image of a batch gets its own. The two operations
that torchvision defines on bytes alone, posterize and equalize, work on the nearest of the 256 levels.
"""

import jax
import jax.numpy as jnp

from jaxhw.vision.augment import filters, levels

Array = jax.Array
LUMA = (0.2989, 0.587, 0.114)  # torchvision's rounding of ITU-R 601-2


def luma(image: Array) -> Array:
    """Brightness [h, w, 1] of an image [h, w, 3]."""
    return sum(weight * image[..., i : i + 1] for i, weight in enumerate(LUMA))


def mean_luma(image: Array) -> Array:
    """The mean brightness [], as one product with a constant: several times faster than ``jnp.mean(luma(image))``."""
    height, width, _ = image.shape
    weights = jnp.tile(jnp.array(LUMA) / (height * width), height * width)
    return jnp.matmul(image.reshape(-1), weights, precision=jax.lax.Precision.HIGHEST)


def grayscale(image: Array) -> Array:
    """The image [h, w, 3] without its colour."""
    return jnp.broadcast_to(luma(image), image.shape)


def blend(image: Array, other: Array, factor: Array | float) -> Array:
    """``factor * image + (1 - factor) * other``, clipped to [0, 1]; a factor of 1 returns the image bit for bit."""
    return jnp.clip(factor * image + (1.0 - factor) * other, 0.0, 1.0)


def adjust_brightness(image: Array, factor: Array | float) -> Array:
    """Blend with black."""
    return blend(image, jnp.zeros_like(image), factor)


def adjust_contrast(image: Array, factor: Array | float) -> Array:
    """Blend with the mean brightness."""
    return blend(image, mean_luma(image), factor)


def adjust_saturation(image: Array, factor: Array | float) -> Array:
    """Blend with the grayscale image."""
    return blend(image, luma(image), factor)


def adjust_hue(image: Array, shift: Array | float) -> Array:
    """Turn the hue by ``shift``, a fraction of the circle in [-0.5, 0.5]; HSV saturation and value stay."""
    # RGB -> HSV: the value is the largest channel, the chroma its distance to the smallest; the hue, in sixths of the
    # circle, is 0 at red, 2 at green and 4 at blue.
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    scale = 1.0 / jnp.where(chroma == 0, 1.0, chroma)  # a grey pixel has no hue: any finite one will do
    in_green_or_blue = jnp.where(value == green, 2.0 + (blue - red) * scale, 4.0 + (red - green) * scale)
    hue = jnp.where(value == red, (green - blue) * scale, in_green_or_blue) / 6.0 + shift
    hue = 6.0 * (hue - jnp.floor(hue))  # not jnp.mod, whose fmod costs more than all the rest

    # HSV -> RGB: red, green and blue are the value less the chroma times each of
    # clip(3 - |hue - 3|, |hue - 2| - 1, |hue - 4| - 1)
    value, chroma, hue = value[..., None], chroma[..., None], hue[..., None]
    distance = jnp.abs(hue - jnp.array([3.0, 2.0, 4.0]))
    lack = jnp.array([2.0, -1.0, -1.0]) + jnp.array([-1.0, 1.0, 1.0]) * distance
    return value - chroma * jnp.clip(lack, 0.0, 1.0)


def color_jitter(key: Array, image: Array, brightness: float, contrast: float, saturation: float, hue: float) -> Array:
    """Colour jitter: random brightness, contrast, saturation and hue, in a random order, as torchvision's ColorJitter.

    Values are clipped after each. The first three factors are uniform in [max(0, 1 - x), 1 + x], the hue's shift in
    [-hue, hue].
    """
    draws = jax.random.uniform(key, (8,))  # one call: under vmap each further one is another kernel to compile and run
    low = jnp.array([max(0.0, 1.0 - brightness), max(0.0, 1.0 - contrast), max(0.0, 1.0 - saturation), -hue])
    high = jnp.array([1.0 + brightness, 1.0 + contrast, 1.0 + saturation, hue])
    return jitter_in_order(image, low + (high - low) * draws[:4], jnp.argsort(draws[4:]))


def jitter_in_order(image: Array, factors: Array, order: Array) -> Array:
    """Brightness (0), contrast (1), saturation (2) and hue (3) with ``factors`` [4], in the given order [4]."""
    position = jnp.argsort(order)  # of each operation in the order
    blends = jnp.argsort(position[:3])  # the three blends in their order
    # The hue is dearer than the blends: do it once, and run the blends before and after it, each of them with the
    # factor 1 (no change) on the side where it is not wanted.
    before = position[blends] < position[3]
    image = _blends(image, blends, jnp.where(before, factors[blends], 1.0))
    image = adjust_hue(image, factors[3])
    return _blends(image, blends, jnp.where(before, 1.0, factors[blends]))


def _blends(image: Array, order: Array, factors: Array) -> Array:
    """Brightness (0), contrast (1) and saturation (2) in the given order [3], the factors [3] in that order too."""

    def step(image: Array, operation: tuple[Array, Array]) -> tuple[Array, None]:
        # The other image: black for brightness, the mean grey for contrast, grey for saturation.
        which, factor = operation
        other = jnp.where(which == 0, 0.0, jnp.where(which == 1, mean_luma(image), luma(image)))
        return blend(image, other, factor), None

    # A loop, not three lines: the compiler would fuse the three and compute the first one for every use of its pixels.
    return jax.lax.scan(step, image, (order, factors))[0]


def adjust_sharpness(image: Array, factor: Array | float) -> Array:
    """Blend with a smoothed image."""
    return blend(image, filters.smoothed(image), factor)


def solarize(image: Array, threshold: Array | float) -> Array:
    """Solarize: inverts the values at or above ``threshold``."""
    return jnp.where(image >= threshold, 1.0 - image, image)


def posterize(image: Array, bits: Array | int) -> Array:
    """Posterize: keeps the upper ``bits`` of each value's 8."""
    step = jnp.exp2(8.0 - bits)
    return jnp.floor(jnp.round(255.0 * image) / step) * step / 255.0


def autocontrast(image: Array) -> Array:
    """Stretch each channel to [0, 1]; a constant channel stays as it is."""
    low = jnp.min(image, axis=(0, 1))
    spread = jnp.max(image, axis=(0, 1)) - low
    return jnp.where(spread > 0, jnp.clip((image - low) / jnp.where(spread > 0, spread, 1.0), 0.0, 1.0), image)


def equalize(image: Array) -> Array:
    """Histogram equalisation of each channel's 256 levels (PIL's integer arithmetic).

    A channel stays as it is if fewer than 255 pixels are darker than its lightest level.
    """
    number = jnp.round(255.0 * image).astype(jnp.int32).reshape(-1, image.shape[-1])
    histogram = levels.histogram(number)
    # A level's new value is the number of pixels below it, over the step that spreads them on 0 to 255.
    below = jnp.cumsum(histogram, axis=1) - histogram
    below_highest = jnp.max(jnp.where(histogram > 0, below, 0.0), axis=1, keepdims=True)
    step = jnp.floor(below_highest / 255.0)
    table = jnp.floor((below + jnp.floor(step / 2.0)) / jnp.maximum(step, 1.0))
    table = jnp.where(step == 0, jnp.arange(256.0), jnp.minimum(table, 255.0))
    return levels.look_up(table, number).reshape(image.shape) / 255.0
