"""Random views of images, what self-supervised methods learn from: drawn on the device, each with a key of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxhw.errors import UserError
from jaxhw.options import Rule, above, at_least, between, defaults, each, one_of, option, read, require
from jaxhw.vision.augment import color, filters, geometry, rules

Array = jax.Array


@dataclass(frozen=True)
class Views:
    """What ``config.augment`` of a pre-training run may set. The defaults are SimCLR's on ImageNet.

    See Chen et al. 2020, appendix A. ``blur`` and ``solarize`` are probabilities of the views in turn: one entry for
    all of them, or one for the first, one for the second...
    """

    crop_scale: tuple[float, float] = option((0.08, 1.0), "share of the area of random resized crops", *rules.AREA)
    crop_last: bool = option(False, "crop after all other operations, not before them")
    interpolation: str = option("bicubic", "of the crop", one_of("bilinear", "bicubic"))
    flip: float = option(0.5, "probability to mirror left and right", between(0, 1))
    jitter: tuple[float, ...] = option(
        (0.8, 0.8, 0.8, 0.2), "colour jitter: brightness, contrast, saturation, hue", *rules.JITTER
    )
    jitter_probability: float = option(0.8, "of colour jitter", between(0, 1))
    gray: float = option(0.2, "probability to lose the colour", between(0, 1))
    blur: tuple[float, ...] = option((0.5,), "probabilities of a Gaussian blur", each(between(0, 1)))
    blur_sigma: tuple[float, float] = option(
        (0.1, 2.0), "least and largest, in pixels", each(above(0), 2), rules.ASCENDING
    )
    blur_kernel: int = option(
        0, "pixels; 0 is a tenth of the image", Rule("that is odd, or 0", lambda n: n == 0 or (n > 0 and n % 2 == 1))
    )
    solarize: tuple[float, ...] = option((0.0,), "probabilities to solarize", each(between(0, 1)))


SIMCLR = defaults(Views)
# SimCLR on CIFAR-10 (Chen et al. 2020, appendix B.9): no blur, half the distortion.
SIMCLR_CIFAR = SIMCLR | {"jitter": (0.4, 0.4, 0.4, 0.1), "blur": (0.0,)}
# Grill et al. 2020, table 6: the two views are not drawn alike.
BYOL = SIMCLR | {"jitter": (0.4, 0.4, 0.2, 0.1), "blur": (1.0, 0.1), "solarize": (0.0, 0.2)}
# What MoCo v2 and SimSiam use.
MOCO = SIMCLR | {"crop_scale": (0.2, 1.0), "interpolation": "bilinear", "jitter": (0.4, 0.4, 0.4, 0.1)}
# The default of the package byol-pytorch, which draws once for a whole batch where this draws for each image.
BYOL_PYTORCH = SIMCLR | {
    "crop_last": True,
    "interpolation": "bilinear",
    "jitter_probability": 0.3,
    "blur": (0.2,),
    "blur_sigma": (1.0, 2.0),
    "blur_kernel": 3,
}


def pipeline(options: Mapping[str, Any], count: int) -> Callable[[Array, Array], Array]:
    """The function (keys [b], images uint8 [b, h, w, 3]) -> ``count`` views [b, v, h, w, 3] in [0, 1], float32.

    The order is crop, flip, colour jitter, grayscale, Gaussian blur, solarize.

    Args:
      options: some or all of :class:`Views`'.
      count: v.

    Raises:
      UserError: fewer than two views, which leaves nothing to compare; an option that is not known or out of range.
    """
    o = read(Views, options, "config.augment")
    require("config.views", count, at_least(2), kind=int)
    # Each view's own probabilities, the entries of an option in turn.
    blur, solarize = (jnp.array([entries[i % len(entries)] for i in range(count)]) for entries in (o.blur, o.solarize))
    view = jax.vmap(lambda *args: draw_view(o, *args), in_axes=(0, None, 0, 0))

    def draw(key: Array, image: Array) -> Array:
        return view(jax.random.split(key, count), image, blur, solarize)

    return lambda keys, images: jax.vmap(draw)(keys, images.astype(jnp.float32) / 255)


def draw_view(o: Views, key: Array, image: Array, blur: Array, solarize: Array) -> Array:
    """One view of an image [h, w, 3]; ``blur`` and ``solarize`` are this view's probabilities."""
    crop_key, jitter_key, key = jax.random.split(key, 3)
    flips, jitters, grays, blurs, solarizes, sigma = jax.random.uniform(key, (6,))
    size, (low, high) = image.shape[:2], o.blur_sigma

    def crop(image: Array) -> Array:
        return geometry.random_resized_crop(crop_key, image, size, o.crop_scale, method=o.interpolation)

    # Under vmap every operation is computed for every image, and a uniform draw below its probability selects the
    # result; operations that no image may meet are left out of the program.
    image = image if o.crop_last else crop(image)
    image = jnp.where(flips < o.flip, image[:, ::-1], image)
    if o.jitter_probability and any(o.jitter):
        jittered = color.color_jitter(jitter_key, image, *o.jitter)
        image = jnp.where(jitters < o.jitter_probability, jittered, image)
    if o.gray:
        image = jnp.where(grays < o.gray, color.luma(image), image)
    if any(o.blur):
        kernel = o.blur_kernel or 2 * (size[0] // 20) + 1
        image = jnp.where(blurs < blur, filters.gaussian_blur(image, low + (high - low) * sigma, kernel), image)
    if any(o.solarize):
        image = jnp.where(solarizes < solarize, color.solarize(image, 0.5), image)
    return crop(image) if o.crop_last else image


def check_size(options: Mapping[str, Any], size: int) -> None:
    """Raises a UserError for a blur kernel that reaches beyond the mirror image of ``size`` pixels a side."""
    kernel, widest = options["blur_kernel"], 2 * size - 1
    if any(options["blur"]) and kernel > widest:
        raise UserError(f"config.augment.blur_kernel={kernel} must be at most {widest} for images of {size} pixels")
