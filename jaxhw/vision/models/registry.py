"""The models by name: their options, and building one from a config."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.errors import UserError
from jaxhw.vision.models.classifier import HEADS
from jaxhw.vision.models.resnet import STEMS, ResNet18, ResNet34, ResNet50
from jaxhw.vision.models.vit import POOLS, STYLES, ViT

MODELS = {"resnet18": ResNet18, "resnet34": ResNet34, "resnet50": ResNet50, "vit": ViT}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
CHOICES = {"stem": STEMS, "pool": POOLS, "head": HEADS, "style": STYLES}
# create() sets these from the task: they are not options of the model
GIVEN = {"num_classes", "image_size", "dtype", "parent", "name"}


def options(name: str) -> dict:
    """The options of a model, with their defaults.

    Raises:
        UserError: there is no such model.
    """
    if name not in MODELS:
        raise UserError(f"model.name: unknown model {name!r}; choose one of {', '.join(MODELS)}")
    module = getattr(MODELS[name], "func", MODELS[name])
    return {f.name: f.default for f in fields(module) if f.name not in GIVEN and f.default is not MISSING}


def create(config: Mapping, num_classes: int | None, image_size: int, dtype: str = "float32") -> nn.Module:
    """Builds the model `config["name"]`; the other entries are its options.

    Args:
        num_classes: outputs of the linear head; None for no head: the model then returns features.
        image_size: side of the square images, in pixels.
        dtype: "float32" or "bfloat16", of the operands of matrix products; parameters and logits are float32.

    Raises:
        UserError: an unknown model, option or value, or one that the image size does not allow.
    """
    given = dict(config)
    name = given.pop("name", None)
    defaults = options(name)
    for key, value in given.items():
        if key not in defaults:
            raise UserError(f"model.{key}: {name} has no such option; it has {', '.join(defaults)}")
        _check(key, value, defaults[key])
    if dtype not in DTYPES:
        raise UserError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
    patch = given.get("patch", defaults.get("patch"))
    if patch and image_size % patch:
        raise UserError(f"model.patch: {patch} does not divide the images' {image_size} pixels")
    return MODELS[name](**given, num_classes=num_classes, image_size=image_size, dtype=DTYPES[dtype])


def _check(key: str, value, default) -> None:
    """Raises UserError unless the value is of its default's kind and range."""
    if key in CHOICES:
        if value not in CHOICES[key]:
            raise UserError(f"model.{key}: {value!r} is not one of {', '.join(CHOICES[key])}")
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise UserError(f"model.{key}: {value!r} is not true or false")
    elif isinstance(default, int):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"model.{key}: {value!r} is not a positive whole number")
    elif not isinstance(value, int | float) or not 0 <= value < 1:
        raise UserError(f"model.{key}: {value!r} is not a probability below 1")


def shapes(model: nn.Module, image_size: int) -> dict:
    """The model's variables as shapes and dtypes, without computing anything."""
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)
