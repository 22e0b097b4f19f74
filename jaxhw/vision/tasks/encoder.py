"""What pre-training learns: the function from pictures to features."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxhw.vision.augment import standard
from jaxhw.vision.models import registry

PyTree = Any


class Encoder:
    """The trained function from pictures to features, with the pre-processing that belongs to it."""

    def __init__(self, config: ConfigDict, image_size: int):
        self.model = registry.create(config.model, None, image_size, config.dtype)
        self.normalise = standard.normaliser(config.normalise)

    def features(self, variables: PyTree, images: jax.Array) -> jax.Array:
        """uint8 images [b, h, w, 3] -> [b, d]; ``variables`` are the model's."""
        return self.of_pixels(variables, images.astype(jnp.float32) / 255)

    def of_pixels(self, variables: PyTree, images: jax.Array) -> jax.Array:
        """Images [b, h, w, 3] in [0, 1] -> [b, d], with the running batch statistics."""
        return self.model.apply(variables, self.normalise(images), train=False)
