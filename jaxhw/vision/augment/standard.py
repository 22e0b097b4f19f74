"""The standard augmentation of a training batch, built from plain values; normalisation.

Everything runs on the device inside the jitted step. Each image has its own key and is augmented by pure functions
``f(key, image)`` under ``jax.vmap``, so that the result does not depend on how the batch is spread over devices. The
operations are in ``geometry``, ``filters``, ``color`` and ``autoaugment``; ``mixing`` combines the augmented images.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxhw.errors import UserError
from jaxhw.vision.augment import autoaugment, color, geometry

Array = jax.Array

# Mean and standard deviation of the training images' channels, in [0, 1].
STATISTICS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # to [-1, 1]: timm's ViTs of ImageNet-21k
}
_CHOICES = {"crop": ("none", "pad", "resized"), "auto": ("none", "randaugment", "trivialaugment")}


def default_options() -> dict[str, Any]:
    """All options with their defaults, which change nothing. ``standard`` uses those down to ``erasing``."""
    return {
        "crop": "none",  # "pad": zero padding and a crop of the same size; "resized": a random box scaled to that size
        "pad": 4,  # pixels a side
        "crop_scale": (0.08, 1.0),  # share of the area
        "flip": False,
        "auto": "none",  # "randaugment", "trivialaugment"
        "randaugment_n": 2,
        "randaugment_magnitude": 9,  # of 0 to 30
        "jitter": (0.0, 0.0, 0.0, 0.0),  # brightness, contrast, saturation, hue
        "erasing": 0.0,  # probability
        # for mixing.mix and mixing.smooth
        "mixup": 0.0,  # alpha
        "cutmix": 0.0,  # alpha
        "mix_probability": 1.0,
        "label_smoothing": 0.0,
    }


def standard(options: Mapping[str, Any]) -> Callable[[Array, Array], Array]:
    """The pipeline ``f(keys [b], images uint8 [b, h, w, 3]) -> float32 [b, h, w, 3]`` in [0, 1].

    The order is crop, flip, auto-augmentation, jitter, erasing. Raises UserError for an option that is not known or
    out of range.
    """
    options = {**default_options(), **options}
    check(options)
    operations = [_crop(options), _flip(options), _auto(options), _jitter(options), _erasing(options)]

    def augment(key: Array, image: Array) -> Array:
        # Every operation has its key whether the others are there or not.
        for operation_key, operation in zip(jax.random.split(key, len(operations)), operations, strict=True):
            image = operation(operation_key, image) if operation else image
        return image

    return lambda keys, images: jax.vmap(augment)(keys, images.astype(jnp.float32) / 255.0)


def check(options: Mapping[str, Any]) -> None:
    """Raise UserError for the first option that is not known or out of range."""
    for name, value in options.items():
        if name not in default_options():
            raise UserError(f"augment.{name} is not an option: use one of {', '.join(default_options())}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise UserError(f"augment.{name} is {value!r}: use one of {', '.join(_CHOICES[name])}")
        if name in ("erasing", "mix_probability", "label_smoothing") and not 0 <= value <= 1:
            raise UserError(f"augment.{name} is {value}: use a number from 0 to 1")
        if name in ("pad", "mixup", "cutmix", "randaugment_n") and not 0 <= value < math.inf:
            raise UserError(f"augment.{name} is {value}: use a finite number from 0 on")
    if not 0 <= options["randaugment_magnitude"] < autoaugment.BINS:
        raise UserError(f"augment.randaugment_magnitude is {options['randaugment_magnitude']}: use 0 to 30")
    scale, jitter = tuple(options["crop_scale"]), tuple(options["jitter"])
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise UserError(f"augment.crop_scale is {scale}: use two shares of the area, such as (0.08, 1.0)")
    if len(jitter) != 4 or not all(0 <= value < math.inf for value in jitter) or jitter[3] > 0.5:
        raise UserError(f"augment.jitter is {jitter}: use (brightness, contrast, saturation, hue), the hue at most 0.5")


def _crop(options: Mapping[str, Any]) -> Callable | None:
    if options["crop"] == "pad":
        return lambda key, image: geometry.pad_crop(key, image, options["pad"])
    if options["crop"] == "resized":
        scale = tuple(options["crop_scale"])
        return lambda key, image: geometry.random_resized_crop(key, image, image.shape[:2], scale)
    return None


def _flip(options: Mapping[str, Any]) -> Callable | None:
    return geometry.flip if options["flip"] else None


def _auto(options: Mapping[str, Any]) -> Callable | None:
    if options["auto"] == "randaugment":
        n, magnitude = options["randaugment_n"], options["randaugment_magnitude"]
        return lambda key, image: autoaugment.rand_augment(key, image, n, magnitude)
    return autoaugment.trivial_augment if options["auto"] == "trivialaugment" else None


def _jitter(options: Mapping[str, Any]) -> Callable | None:
    jitter = tuple(options["jitter"])
    return (lambda key, image: color.color_jitter(key, image, *jitter)) if any(jitter) else None


def _erasing(options: Mapping[str, Any]) -> Callable | None:
    probability = options["erasing"]
    return (lambda key, image: geometry.random_erasing(key, image, probability)) if probability else None


def normaliser(statistics: str) -> Callable[[Array], Array]:
    """(images - mean) / deviation for each channel of images [..., 3] in [0, 1], with the named STATISTICS.

    Raises UserError for an unknown name.
    """
    if statistics not in STATISTICS:
        raise UserError(f"config.normalise={statistics!r} is unknown; choose one of {', '.join(STATISTICS)}")
    mean, deviation = STATISTICS[statistics]
    return lambda images: (images - jnp.array(mean)) / jnp.array(deviation)
