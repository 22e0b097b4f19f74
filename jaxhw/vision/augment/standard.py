"""The standard augmentation of a training batch, built from plain values; normalisation.

Everything runs on the device inside the jitted step. Each image has its own key and is augmented by pure functions
``f(key, image)`` under ``jax.vmap``, so that the result does not depend on how the batch is spread over devices. The
operations are in ``geometry``, ``filters``, ``color`` and ``autoaugment``; ``mixing`` combines the augmented images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxhw.options import at_least, between, one_of, option, read, require
from jaxhw.vision.augment import autoaugment, color, geometry, rules

Array = jax.Array
Operation = Callable[[Array, Array], Array]  # (key, image) -> image

# Mean and standard deviation of the training images' channels, in [0, 1].
STATISTICS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # to [-1, 1]: timm's ViTs of ImageNet-21k
}


@dataclass(frozen=True)
class Standard:
    """What ``config.augment`` of a classification run may set. The defaults change nothing.

    :func:`standard` uses those down to ``erasing``; the others are for :func:`jaxhw.vision.augment.mixing.mix` and
    :func:`~jaxhw.vision.augment.mixing.smooth`.
    """

    crop: str = option(
        "none",
        "pad: zero padding and a crop of the same size; resized: random resized crop",
        one_of("none", "pad", "resized"),
    )
    pad: int = option(4, "pixels a side, of crop pad", at_least(0))
    crop_scale: tuple[float, float] = option((0.08, 1.0), "share of the area, of crop resized", *rules.AREA)
    flip: bool = option(False, "mirror left and right in half of the draws")
    auto: str = option("none", "RandAugment or TrivialAugment", one_of("none", "randaugment", "trivialaugment"))
    randaugment_n: int = option(2, "operations one after the other", at_least(0))
    randaugment_magnitude: int = option(9, "their strength", between(0, autoaugment.BINS - 1))
    jitter: tuple[float, ...] = option(
        (0.0, 0.0, 0.0, 0.0), "colour jitter: brightness, contrast, saturation, hue", *rules.JITTER
    )
    erasing: float = option(0.0, "probability of random erasing", between(0, 1))
    mixup: float = option(0.0, "alpha of mixup; 0: none", at_least(0))
    cutmix: float = option(0.0, "alpha of CutMix; 0: none", at_least(0))
    mix_probability: float = option(1.0, "with which an image is mixed", between(0, 1))
    label_smoothing: float = option(0.0, "share of the target that all classes divide", between(0, 1))


def standard(options: Mapping[str, Any]) -> Callable[[Array, Array], Array]:
    """The pipeline ``f(keys [b], images uint8 [b, h, w, 3]) -> float32 [b, h, w, 3]`` in [0, 1].

    The order is crop, flip, auto-augmentation, colour jitter, random erasing.

    Args:
      options: some or all of :class:`Standard`'s.

    Raises:
      UserError: an option that is not known or out of range.
    """
    o = read(Standard, options, "config.augment")
    operations = [_crop(o), _flip(o), _auto(o), _jitter(o), _erasing(o)]

    def augment(key: Array, image: Array) -> Array:
        # Every operation has its key whether the others are there or not.
        for operation_key, operation in zip(jax.random.split(key, len(operations)), operations, strict=True):
            image = operation(operation_key, image) if operation else image
        return image

    return lambda keys, images: jax.vmap(augment)(keys, images.astype(jnp.float32) / 255.0)


def _crop(o: Standard) -> Operation | None:
    if o.crop == "pad":
        return lambda key, image: geometry.pad_crop(key, image, o.pad)
    if o.crop == "resized":
        return lambda key, image: geometry.random_resized_crop(key, image, image.shape[:2], o.crop_scale)
    return None


def _flip(o: Standard) -> Operation | None:
    return geometry.flip if o.flip else None


def _auto(o: Standard) -> Operation | None:
    if o.auto == "randaugment":
        return lambda key, image: autoaugment.rand_augment(key, image, o.randaugment_n, o.randaugment_magnitude)
    return autoaugment.trivial_augment if o.auto == "trivialaugment" else None


def _jitter(o: Standard) -> Operation | None:
    return (lambda key, image: color.color_jitter(key, image, *o.jitter)) if any(o.jitter) else None


def _erasing(o: Standard) -> Operation | None:
    return (lambda key, image: geometry.random_erasing(key, image, o.erasing)) if o.erasing else None


def normaliser(statistics: str) -> Callable[[Array], Array]:
    """(images - mean) / deviation for each channel of images [..., 3] in [0, 1], with the named STATISTICS.

    Raises:
      UserError: an unknown name.
    """
    require("config.normalise", statistics, one_of(*STATISTICS), kind=str)
    mean, deviation = STATISTICS[statistics]
    return lambda images: (images - jnp.array(mean)) / jnp.array(deviation)
