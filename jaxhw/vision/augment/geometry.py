"""Operations that move or remove pixels of one image [h, w, c], made for ``jax.vmap`` with one key an image.

The image may be of bytes or floats where nothing is interpolated; black (0) fills what comes from outside.
"""

import math

import jax
import jax.numpy as jnp

from jaxhw.vision.augment import filters

Array = jax.Array
TRIES = 10  # torchvision draws a crop's or an erased box's shape this often until one fits
Box = tuple[Array, Array, Array, Array]  # top, left, height, width in pixels


def pad_crop(key: Array, image: Array, pad: int = 4) -> Array:
    """Shift the image by up to ``pad`` pixels each way: pad with zeros, then cut the original size at random.

    The zeros are black in the range of the pixels themselves: crop before normalising.
    """
    top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def flip(key: Array, image: Array) -> Array:
    """Random horizontal flip: mirrors left and right with probability one half."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def random_resized_crop(
    key: Array,
    image: Array,
    size: tuple[int, int],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    method: str = "bilinear",
) -> Array:
    """Random resized crop: a box of a share ``scale`` of the area and aspect ``ratio`` (w / h), resized to (h, w).

    ``size`` is that (h, w). It is the crop of Szegedy et al. 2015, with torchvision's draws.
    """
    return resized_crop(image, crop_box(key, image.shape[0], image.shape[1], scale, ratio), size, method)


def crop_box(key: Array, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]) -> Box:
    """The box of a random resized crop, as torchvision's RandomResizedCrop draws it.

    The first of ten draws that fits in the image; if none does, the largest central box of an allowed ratio.
    """
    # All ten shapes at once, where torchvision has a loop; the first that fits is taken.
    draws = jax.random.uniform(key, (2 * TRIES + 2,))
    h, w = _box_shapes(draws, height, width, scale, (1 / ratio[1], 1 / ratio[0]))
    fits = (h > 0) & (h <= height) & (w > 0) & (w <= width)
    first, some = jnp.argmax(fits), jnp.any(fits)
    # Where none fits: the whole image, or, where its own ratio is not allowed, the most of it that is.
    fallback_h, fallback_w = height, width
    if width / height < ratio[0]:
        fallback_h = round(width / ratio[0])
    elif width / height > ratio[1]:
        fallback_w = round(height * ratio[1])
    # A box that fits lies anywhere, the other in the centre.
    h, w = jnp.where(some, h[first], fallback_h), jnp.where(some, w[first], fallback_w)
    top, left = _place(draws, height - h, width - w)
    return jnp.where(some, top, (height - h) // 2), jnp.where(some, left, (width - w) // 2), h, w


def _box_shapes(
    draws: Array, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Array, Array]:
    """Ten boxes (h, w), each [10], from uniform draws: area in ``scale``, log(h / w) in log ``ratio``."""
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[:TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = jnp.exp(low + (high - low) * draws[TRIES : 2 * TRIES])
    h, w = jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect))
    return h.astype(jnp.int32), w.astype(jnp.int32)


def _place(draws: Array, top: Array, left: Array) -> tuple[Array, Array]:
    """Integers in [0, top] and [0, left] from the two uniform draws after the shapes' twenty."""
    place = jnp.floor(draws[2 * TRIES : 2 * TRIES + 2] * (jnp.stack([top, left]) + 1)).astype(jnp.int32)
    return place[0], place[1]


def resized_crop(image: Array, box: Box, size: tuple[int, int], method: str = "bilinear") -> Array:
    """The box of a float image, resized with antialiasing to ``size`` = (h, w).

    Equals cutting the box out first: pixels outside it have no weight. ``method`` is "bilinear" or "bicubic"; the
    latter's overshoot is clipped to [0, 1].
    """
    top, left, h, w = box
    rows = filters.resize_matrix(top, h, image.shape[0], size[0], method)
    columns = filters.resize_matrix(left, w, image.shape[1], size[1], method)
    image = filters.separable(image, rows, columns)
    return jnp.clip(image, 0.0, 1.0) if method == "bicubic" else image


def random_erasing(
    key: Array,
    image: Array,
    probability: float,
    scale: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
) -> Array:
    """Random erasing: blackens a box with the given probability (Zhong et al. 2017, arXiv:1708.04896).

    As torchvision draws it.

    The box has a share ``scale`` of the area and an aspect ``ratio`` (h / w); the first of ten draws that is smaller
    than the image, nothing if none is.
    """
    # As in `crop_box`; the last draw decides whether anything is erased.
    height, width, _ = image.shape
    draws = jax.random.uniform(key, (2 * TRIES + 3,))
    h, w = _box_shapes(draws, height, width, scale, ratio)
    fits = (h < height) & (w < width)
    first = jnp.argmax(fits)
    erase = jnp.any(fits) & (draws[-1] < probability)
    top, left = _place(draws, height - h[first], width - w[first])
    box = box_mask(top, left, h[first], w[first], height, width)
    return jnp.where((box & erase)[:, :, None], jnp.zeros_like(image), image)


def box_mask(top: Array, left: Array, h: Array, w: Array, height: int, width: int) -> Array:
    """True [height, width] in the box."""
    rows, columns = jnp.arange(height), jnp.arange(width)
    return ((rows >= top) & (rows < top + h))[:, None] & ((columns >= left) & (columns < left + w))[None, :]


def affine(image: Array, matrix: Array) -> Array:
    """Move pixels by an affine map, nearest neighbour, black outside (torchvision's default in the auto-augmentations).

    ``matrix`` [2, 3] takes an output pixel (x, y, 1), counted from the image's centre, to where it comes from.
    """
    # Where each output pixel comes from, as a row and a column of the image.
    height, width, _ = image.shape
    x = jnp.arange(width) - (width - 1) / 2
    y = (jnp.arange(height) - (height - 1) / 2)[:, None]
    column = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + (width - 1) / 2
    row = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] + (height - 1) / 2
    column, row = jnp.round(column).astype(jnp.int32), jnp.round(row).astype(jnp.int32)
    # The nearest neighbour, or black outside.
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    moved = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[:, :, None], moved, jnp.zeros_like(moved))
