"""The models by name: their options, and building one from a config."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.errors import UserError
from jaxhw.options import checked, defaults, one_of, require
from jaxhw.vision.models.resnet import ResNet18, ResNet34, ResNet50
from jaxhw.vision.models.vit import ViT

MODELS = {"resnet18": ResNet18, "resnet34": ResNet34, "resnet50": ResNet50, "vit": ViT}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def options(name: str) -> dict[str, Any]:
    """The options of a model, with their defaults.

    Raises:
        UserError: there is no such model.
    """
    return defaults(_module(name))


def create(config: Mapping, num_classes: int | None, image_size: int, dtype: str = "float32") -> nn.Module:
    """Builds the model `config["name"]`; the other entries are its options.

    Args:
        num_classes: outputs of the classification head; None for no head: the model then returns features.
        image_size: side of the square images, in pixels.
        dtype: "float32" or "bfloat16", of the operands of matrix products; parameters and logits are float32.

    Raises:
        UserError: an unknown model, option or value, or one that the image size does not allow.
    """
    given = dict(config)
    name = given.pop("name", None)
    values = checked(_module(name), given, "config.model", owner=name)
    require("config.dtype", dtype, one_of(*DTYPES), kind=str)
    # A ViT's patches must cover the image.
    patch = values.get("patch", 1)
    if image_size % patch:
        raise UserError(f"config.model.patch={patch} does not divide the images' {image_size} pixels")
    return MODELS[name](**values, num_classes=num_classes, image_size=image_size, dtype=DTYPES[dtype])


def _module(name: str) -> type[nn.Module]:
    """The class whose options a model of this name has."""
    require("config.model.name", name, one_of(*MODELS), kind=str)
    return getattr(MODELS[name], "func", MODELS[name])


def init(model: nn.Module, rng: jax.Array, *inputs: jax.Array) -> tuple[dict, dict]:
    """(parameters, other collections such as batch statistics) of a model at the start, by one compiled program."""
    variables = dict(jax.jit(model.init, static_argnames="train")(rng, *inputs, train=False))
    return variables.pop("params"), variables


def shapes(model: nn.Module, image_size: int) -> dict:
    """The model's variables as shapes and dtypes, without computing anything."""
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)
