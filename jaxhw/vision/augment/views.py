"""Random views of images, what self-supervised methods learn from: drawn on the device, each with a key of its own."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxhw.errors import UserError
from jaxhw.vision.augment import color, filters, geometry

Array = jax.Array

# SimCLR on ImageNet (Chen et al. 2020, appendix A), and on CIFAR-10 (appendix B.9): no blur, half the distortion.
SIMCLR = {
    "crop_scale": (0.08, 1.0),
    "crop_last": False,  # crop after all other operations, not before them
    "interpolation": "bicubic",
    "flip": 0.5,
    "jitter": (0.8, 0.8, 0.8, 0.2),  # brightness, contrast, saturation, hue
    "jitter_probability": 0.8,
    "gray": 0.2,
    "blur": (0.5,),  # of the views in turn: one entry for all, or one for the first, one for the second...
    "blur_sigma": (0.1, 2.0),  # pixels
    "blur_kernel": 0,  # pixels, odd; 0 is a tenth of the image
    "solarize": (0.0,),  # of the views in turn
}
SIMCLR_CIFAR = {**SIMCLR, "jitter": (0.4, 0.4, 0.4, 0.1), "blur": (0.0,)}
# Grill et al. 2020, table 6: the two views are not drawn alike.
BYOL = {**SIMCLR, "jitter": (0.4, 0.4, 0.2, 0.1), "blur": (1.0, 0.1), "solarize": (0.0, 0.2)}
# What MoCo v2 and SimSiam use.
MOCO = {**SIMCLR, "crop_scale": (0.2, 1.0), "interpolation": "bilinear", "jitter": (0.4, 0.4, 0.4, 0.1)}
# The default of the package byol-pytorch, which draws once for a whole batch where this draws for each image.
BYOL_PYTORCH = {
    **SIMCLR,
    "crop_last": True,
    "interpolation": "bilinear",
    "jitter_probability": 0.3,
    "blur": (0.2,),
    "blur_sigma": (1.0, 2.0),
    "blur_kernel": 3,
}
_PROBABILITIES = ("flip", "jitter_probability", "gray", "blur", "solarize")


def pipeline(options: Mapping[str, Any], count: int) -> Callable[[Array, Array], Array]:
    """The function (keys [b], images uint8 [b, h, w, 3]) -> ``count`` views [b, v, h, w, 3] in [0, 1], float32.

    The order is crop, flip, jitter, grayscale, blur, solarize. Raises UserError for fewer than two views and for
    options that are not known or out of range.
    """
    options = {**SIMCLR, **options}
    check(options, count)
    blur, solarize = (jnp.array([options[name][i % len(options[name])] for i in range(count)]) for name in PER_VIEW)
    view = jax.vmap(lambda *args: draw_view(options, *args), in_axes=(0, None, 0, 0))

    def draw(key: Array, image: Array) -> Array:
        return view(jax.random.split(key, count), image, blur, solarize)

    return lambda keys, images: jax.vmap(draw)(keys, images.astype(jnp.float32) / 255)


PER_VIEW = ("blur", "solarize")


def draw_view(options: Mapping[str, Any], key: Array, image: Array, blur: Array, solarize: Array) -> Array:
    """One view of an image [h, w, 3]; ``blur`` and ``solarize`` are this view's probabilities."""
    crop_key, jitter_key, key = jax.random.split(key, 3)
    flips, jitters, grays, blurs, solarizes, sigma = jax.random.uniform(key, (6,))
    size, (low, high) = image.shape[:2], options["blur_sigma"]

    def crop(image: Array) -> Array:
        return geometry.random_resized_crop(
            crop_key, image, size, tuple(options["crop_scale"]), method=options["interpolation"]
        )

    image = image if options["crop_last"] else crop(image)
    image = jnp.where(flips < options["flip"], image[:, ::-1], image)
    if options["jitter_probability"] and any(options["jitter"]):
        jittered = color.color_jitter(jitter_key, image, *options["jitter"])
        image = jnp.where(jitters < options["jitter_probability"], jittered, image)
    if options["gray"]:
        image = jnp.where(grays < options["gray"], color.luma(image), image)
    if any(options["blur"]):
        kernel = options["blur_kernel"] or 2 * (size[0] // 20) + 1
        image = jnp.where(blurs < blur, filters.gaussian_blur(image, low + (high - low) * sigma, kernel), image)
    if any(options["solarize"]):
        image = jnp.where(solarizes < solarize, color.solarize(image, 0.5), image)
    return crop(image) if options["crop_last"] else image


def check(options: Mapping[str, Any], count: int) -> None:
    """Raises UserError for the first option that is not known or out of range."""
    if count < 2:
        raise UserError(f"config.views={count}: these methods compare views of an image, use at least 2")

    def need(holds: bool, name: str, what: str) -> None:
        if not holds:
            raise UserError(f"augment.{name} is {options[name]!r}: use {what}")

    for name, value in options.items():
        if name not in SIMCLR:
            raise UserError(f"augment.{name} is not an option: use one of {', '.join(SIMCLR)}")
        if isinstance(SIMCLR[name], tuple):
            need(_are_numbers(value), name, f"numbers in brackets, as {SIMCLR[name]}")
    for name in _PROBABILITIES:
        values = options[name] if name in PER_VIEW else (options[name],)
        need(all(0 <= value <= 1 for value in values), name, "probabilities from 0 to 1")
    scale, sigma, jitter = (tuple(options[name]) for name in ("crop_scale", "blur_sigma", "jitter"))
    need(len(scale) == 2 and 0 < scale[0] <= scale[-1] <= 1, "crop_scale", "two shares of the area, as (0.08, 1.0)")
    need(len(sigma) == 2 and 0 < sigma[0] <= sigma[-1], "blur_sigma", "two widths in pixels, as (0.1, 2.0)")
    need(len(jitter) == 4 and min(jitter) >= 0 and jitter[3] <= 0.5, "jitter", "four strengths, the hue's at most 0.5")
    need(options["interpolation"] in ("bilinear", "bicubic"), "interpolation", "bilinear or bicubic")
    kernel = options["blur_kernel"]
    need(kernel == 0 or (kernel > 0 and kernel % 2 == 1), "blur_kernel", "an odd number of pixels, or 0")


def _are_numbers(value: Any) -> bool:
    """Whether it is a sequence of finite numbers, at least one."""
    if not isinstance(value, tuple | list) or not value:
        return False
    return all(isinstance(number, int | float) and math.isfinite(number) for number in value)


def check_size(options: Mapping[str, Any], size: int) -> None:
    """Raises UserError for a blur that reaches beyond the mirror image of pictures of ``size`` pixels a side."""
    kernel, widest = options["blur_kernel"], 2 * size - 1
    if any(options["blur"]) and kernel > widest:
        raise UserError(f"augment.blur_kernel is {kernel}: use at most {widest} for images of {size} pixels")
