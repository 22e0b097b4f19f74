"""How good a backbone's features are while they form.

At every evaluation: the k-nearest-neighbour accuracy, the numbers of :mod:`jaxhw.vision.ssl.monitors`, a warning if the
features have collapsed, and a picture of images beside their nearest neighbours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from PIL import Image
from tqdm import tqdm

from jaxhw import ornament
from jaxhw.vision.data.datasets import Dataset
from jaxhw.vision.evaluation import knn
from jaxhw.vision.evaluation.features import Extractor
from jaxhw.vision.ssl import monitors

PyTree = Any
IMAGES = 1024  # of which the monitors' numbers are computed
LEAST = 16  # images below which they say nothing: of a few, features may well lie together without a collapse
SHOWN = (8, 10)  # images and neighbours in the picture


@dataclass(frozen=True)
class Functions:
    """What the monitor computes with.

    Attributes:
      features: (variables, images [b, h, w, 3] in [0, 1]) -> [b, d].
      project: (variables, features [b, d]) -> projections [b, p], what the loss compares.
      draw: (keys [b], uint8 images) -> views [b, v, h, w, 3] in [0, 1], as in training.
    """

    features: Callable[[PyTree, jax.Array], jax.Array]
    project: Callable[[PyTree, jax.Array], jax.Array]
    draw: Callable[[jax.Array, jax.Array], jax.Array]

    def of_images(self, variables: PyTree, images: jax.Array) -> jax.Array:
        """uint8 images [b, h, w, 3] -> features [b, d]."""
        return self.features(variables, images.astype(jnp.float32) / 255)

    def of_views(self, variables: PyTree, images: jax.Array) -> jax.Array:
        """uint8 images [b, h, w, 3] -> features [b, v, d] of views of them, always the same views."""
        pixels = self.draw(jax.random.split(jax.random.key(0), len(images)), images)
        z = self.features(variables, pixels.reshape(-1, *pixels.shape[2:]))
        return z.reshape(*pixels.shape[:2], -1)

    def projections(self, variables: PyTree, images: jax.Array) -> jax.Array:
        """uint8 images [b, h, w, 3] -> projections [b, p]."""
        return self.project(variables, self.of_images(variables, images))


@dataclass(frozen=True)
class Sets:
    """The images that the monitor looks at; none is in both sets.

    Attributes:
      bank: among these neighbours are searched.
      queries: these are classified by their neighbours, and of the first of them the numbers are computed.
      labelled: whether both have labels, without which there is no accuracy.
    """

    bank: Dataset
    queries: Dataset
    labelled: bool


class FeatureMonitor:
    """Measures a backbone's features on images that it does not learn from. Labels are used here only.

    Attributes:
      folder: where neighbours.png goes, if anywhere.
    """

    folder: Path | None = None

    def __init__(self, functions: Functions, sets: Sets, neighbours: knn.Options, batch_size: int, mesh: Mesh):
        self.sets, self.neighbours = sets, neighbours
        self.few = sets.queries.subset(np.arange(min(IMAGES, len(sets.queries))))
        self.prefix = "val_" if sets.labelled else "seen_"  # without labels nothing is held out
        self.extract = Extractor(functions.of_images, batch_size, mesh)
        self.extract_views = Extractor(functions.of_views, batch_size, mesh)
        self.extract_projections = Extractor(functions.projections, batch_size, mesh)

    def __call__(self, variables: PyTree) -> dict[str, float]:
        """The queries' kNN accuracy and the monitors' numbers, under val_, or seen_ if nothing is held out.

        The monitors' numbers are NaN, not known, where there are fewer than `LEAST` queries.
        """
        # Collapse, alignment and uniformity, which need no labels, of the first queries.
        queries, bank = self.extract(variables, self.sets.queries), self.extract(variables, self.sets.bank)
        numbers = {
            "feature_std": monitors.spread(queries[:IMAGES]),
            "projection_std": monitors.spread(self.extract_projections(variables, self.few)),
            "alignment": monitors.alignment(self.extract_views(variables, self.few)),
            "uniformity": monitors.uniformity(queries[:IMAGES]),
        }
        known = len(self.few) >= LEAST
        numbers = {self.prefix + name: float(value) if known else math.nan for name, value in numbers.items()}
        # With labels, the share of queries that their neighbours classify correctly.
        if self.sets.labelled:
            accuracy = self._accuracy(bank, self.sets.bank.labels, queries, self.sets.queries.labels)
            numbers = {"val_knn_accuracy": accuracy, **numbers}
        # One process warns of a collapse and draws the picture.
        if jax.process_index() == 0:
            if self.collapsed(numbers):
                tqdm.write(monitors.collapse_line(*self._spreads(numbers)))
            if self.folder:
                self.draw_neighbours(bank, queries[: SHOWN[0]])
        return numbers

    def collapsed(self, numbers: dict[str, float]) -> bool | None:
        """Whether the features of all images, or their projections, are nearly the same; None if that is not known."""
        least = min(self._spreads(numbers))
        return None if math.isnan(least) else least < monitors.COLLAPSED

    def _spreads(self, numbers: dict[str, float]) -> tuple[float, float]:
        return numbers[f"{self.prefix}feature_std"], numbers[f"{self.prefix}projection_std"]

    def _accuracy(self, bank: np.ndarray, bank_labels: np.ndarray, queries: np.ndarray, labels: np.ndarray) -> float:
        options = self.neighbours
        return knn.accuracy(bank, bank_labels, queries, labels, options.knn_k, options.knn_temperature)

    def test(self, variables: PyTree, bank: Dataset, test: Dataset) -> float:
        """The kNN accuracy of a test split among all images of a labelled set."""
        return self._accuracy(self.extract(variables, bank), bank.labels, self.extract(variables, test), test.labels)

    def draw_neighbours(self, bank: np.ndarray, queries: np.ndarray) -> None:
        """Writes neighbours.png: in each row an image and those of the bank that are nearest to it."""
        near = np.asarray(knn.nearest(bank, queries, min(SHOWN[1], len(bank))))
        images = self.sets.queries.take(np.arange(len(queries)))
        rows = [
            np.concatenate([image[None], self.sets.bank.take(row)]) for image, row in zip(images, near, strict=True)
        ]
        path = self.folder / "neighbours.png"
        with ornament.drawn(path):
            image_rows(np.stack(rows), path)


def image_rows(rows: np.ndarray, path: Path) -> None:
    """Rows of small pictures, uint8 [r, n, h, w, 3]: an image first, then, after a gap, the n - 1 that belong to it."""
    # Enlarge to 64 pixels or more, and frame each picture in white.
    r, n, h = rows.shape[:3]
    scale, gap = max(1, 64 // h), 2
    rows = rows.repeat(scale, 2).repeat(scale, 3)
    cell = np.pad(rows, ((0, 0), (0, 0), (gap, gap), (gap, gap), (0, 0)), constant_values=255)
    # All in one picture, with white columns after the first image of each row.
    lines = cell.swapaxes(1, 2).reshape(r * cell.shape[2], n * cell.shape[3], 3)
    lines = np.insert(lines, [cell.shape[3]] * (4 * gap), 255, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(lines).save(path)
