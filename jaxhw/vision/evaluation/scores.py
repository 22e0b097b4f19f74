"""Accuracy on exactly every image of a split: top-1, top-5, per class, confusion matrix."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxhw import mesh as meshes
from jaxhw.process import check_stop
from jaxhw.program import Program
from jaxhw.vision.data import loader
from jaxhw.vision.data.datasets import Dataset

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Scores:
    """The sums over a split.

    Attributes:
      confusion: the confusion matrix [c, c] int64: images of true class i that were predicted as class j.
      top5: images whose class is among the five highest logits.
      loss: summed cross-entropy.
    """

    confusion: np.ndarray
    top5: int
    loss: float

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    def numbers(self, prefix: str) -> dict[str, float]:
        """Means over the images: top-1 accuracy, top-5 accuracy and loss; accuracies in [0, 1].

        Named ``{prefix}_accuracy``, ``{prefix}_top5`` and ``{prefix}_loss``.
        """
        return {
            f"{prefix}_accuracy": float(np.trace(self.confusion) / self.images),
            f"{prefix}_top5": self.top5 / self.images,
            f"{prefix}_loss": self.loss / self.images,
        }

    def per_class(self) -> np.ndarray:
        """[c] accuracy of each class; NaN where the split has no image of it."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.confusion) / self.confusion.sum(1)


class Evaluator:
    """Scores logits over a data set; compiled once for all calls.

    Args:
      logits: (variables, uint8 images [b, h, w, 3]) -> [b, c].
      classes: c.
    """

    def __init__(self, logits: Callable[[PyTree, jax.Array], jax.Array], classes: int, batch_size: int, mesh: Mesh):
        self.batch_size, self.mesh = batch_size, mesh
        whole = lambda variables, images: logits(meshes.gathered(variables, mesh), images)
        self._add = jax.jit(lambda *args: _add(whole, *args), out_shardings=meshes.replicated(mesh))
        self._zero = {"confusion": np.zeros((classes, classes), np.int32), "top5": np.int32(0), "loss": np.float32(0)}

    def __call__(self, variables: PyTree, dataset: Dataset) -> Scores:
        """The scores of exactly every image: those that fill the last batch up are masked."""
        rows, sums = meshes.my_rows(self.batch_size), self._start
        for indices, mask in loader.padded_batches(len(dataset.labels), self.batch_size):
            check_stop()
            batch = _batch(dataset, indices[rows], mask[rows])
            sums = self._add(variables, sums, meshes.put_rows(batch, self.mesh))
        # Only now do the sums leave the device: no batch waits for the host.
        sums = jax.device_get(sums)
        return Scores(sums["confusion"].astype(np.int64), int(sums["top5"]), float(sums["loss"]))

    @functools.cached_property
    def _start(self) -> PyTree:
        """Zeros on the mesh, as the sums are that follow them: one program adds to both."""
        return meshes.on_mesh(lambda: jax.tree.map(jnp.asarray, self._zero), self.mesh)

    def program(self, variables: PyTree, dataset: Dataset) -> Program:
        """What is computed of each batch of a data set."""
        batch = _batch(dataset, *next(loader.padded_batches(len(dataset), self.batch_size)))
        return Program(self._add, (variables, self._zero, batch), self.batch_size)


def _batch(dataset: Dataset, indices: np.ndarray, mask: np.ndarray) -> PyTree:
    return {"image": dataset.take(indices), "label": dataset.labels[indices], "mask": mask}


def _add(logits: Callable, variables: PyTree, sums: PyTree, batch: PyTree) -> PyTree:
    """The sums with those of a batch; z are its logits [b, c]."""
    # The mask is False for images that only fill a batch up.
    labels, mask = batch["label"], batch["mask"]
    z = logits(variables, batch["image"])
    true = jnp.take_along_axis(z, labels[:, None], axis=1)
    # argmax gives an image with a NaN among its logits any class, maybe the right one: it gets a wrong one here.
    predicted = jnp.where(jnp.isnan(z).any(1), (labels + 1) % z.shape[1], z.argmax(1))
    # Top-5: fewer than five logits are larger than the true class's.
    among_five = ((z > true).sum(1) < 5) & jnp.isfinite(true[:, 0])
    losses = optax.softmax_cross_entropy_with_integer_labels(z, labels)
    return {
        "confusion": sums["confusion"].at[labels, predicted].add(mask.astype(jnp.int32)),
        "top5": sums["top5"] + (among_five & mask).sum(dtype=jnp.int32),
        "loss": sums["loss"] + jnp.where(mask, losses, 0).sum(),
    }
