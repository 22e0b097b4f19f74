"""The features of a data set, computed once."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxhw import mesh as meshes
from jaxhw.process import check_stop
from jaxhw.program import Program
from jaxhw.vision.data import loader
from jaxhw.vision.data.datasets import Dataset

PyTree = Any


class Extractor:
    """Applies a function of images to data sets; compiled once for all of them.

    Args:
      features: (variables, uint8 images [b, h, w, 3]) -> [b, ...], each image's on its own (no batch statistics).
      batch_size: a multiple of the mesh's devices.
    """

    def __init__(self, features: Callable[[PyTree, jax.Array], jax.Array], batch_size: int, mesh: Mesh):
        self.batch_size, self.mesh = batch_size, mesh
        whole = lambda variables, images: features(meshes.gathered(variables, mesh), images)
        self._features = jax.jit(whole, out_shardings=meshes.replicated(mesh))

    def __call__(self, variables: PyTree, dataset: Dataset) -> np.ndarray:
        """[n, ...] for the n images in their order, on every process."""
        # Each process decodes its own rows of a batch; all get all features. Batches compute while later ones load.
        mine, parts = meshes.my_rows(self.batch_size), []
        for indices, mask in loader.padded_batches(len(dataset), self.batch_size):
            check_stop()
            images = meshes.put_rows(dataset.take(indices[mine]), self.mesh)
            parts.append((self._features(variables, images), mask))
        return np.concatenate([np.asarray(part)[mask] for part, mask in parts])

    def program(self, variables: PyTree, dataset: Dataset) -> Program:
        """What is computed of each batch of a data set."""
        indices, _ = next(loader.padded_batches(len(dataset), self.batch_size))
        return Program(self._features, (variables, dataset.take(indices)), self.batch_size)
