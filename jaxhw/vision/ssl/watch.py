"""How good features are while they form: kNN accuracy, monitors, a picture of neighbours, a word if all collapse."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from PIL import Image
from tqdm import tqdm

from jaxhw.vision.data.datasets import Dataset
from jaxhw.vision.evaluation import knn
from jaxhw.vision.evaluation.features import Extractor
from jaxhw.vision.ssl import monitors

PyTree = Any
IMAGES = 1024  # that the monitors look at
SHOWN = (8, 10)  # images and neighbours in the picture


class Watch:
    """Looks at a backbone's features of images that it does not learn from. Labels are used here only.

    Args:
      features: (variables, images [b, h, w, 3] in [0, 1]) -> [b, d].
      project: (variables, features [b, d]) -> [b, p], what the loss sees.
      draw: (keys [b], uint8 images) -> views [b, v, h, w, 3] in [0, 1], as in training.
      bank, queries: neighbours are looked for in the bank; no image is in both.
      k, temperature: of :func:`jaxhw.vision.evaluation.knn.accuracy`, where both sets are labelled; k = 0: no accuracy.

    Attributes:
      folder: where neighbours.png goes, if anywhere.
    """

    folder: Path | None = None

    def __init__(
        self,
        features: Callable[[PyTree, jax.Array], jax.Array],
        project: Callable[[PyTree, jax.Array], jax.Array],
        draw: Callable[[jax.Array, jax.Array], jax.Array],
        bank: Dataset,
        queries: Dataset,
        k: int,
        temperature: float,
        batch_size: int,
        mesh: Mesh,
    ):
        def of_views(variables: PyTree, images: jax.Array) -> jax.Array:
            pixels = draw(jax.random.split(jax.random.key(0), len(images)), images)
            z = features(variables, pixels.reshape(-1, *pixels.shape[2:]))
            return z.reshape(*pixels.shape[:2], -1)

        def of_images(variables: PyTree, images: jax.Array) -> jax.Array:
            return features(variables, images.astype(jnp.float32) / 255)

        self.bank, self.queries, self.k = bank, queries, k
        self.few = queries.subset(np.arange(min(IMAGES, len(queries))))
        self.accuracy = partial(knn.accuracy, k=k, temperature=temperature)
        self.split = "val_" if k else "seen_"  # without labels nothing is held out
        functions = of_images, of_views, lambda v, images: project(v, of_images(v, images))
        self.extract, self.extract_views, self.extract_projections = (Extractor(f, batch_size, mesh) for f in functions)

    def __call__(self, variables: PyTree) -> dict[str, float]:
        """The queries' kNN accuracy and the monitors' numbers, under val_, or seen_ if nothing is held out."""
        queries, bank = self.extract(variables, self.queries), self.extract(variables, self.bank)
        numbers = {
            "feature_std": monitors.spread(queries[:IMAGES]),
            "projection_std": monitors.spread(self.extract_projections(variables, self.few)),
            "alignment": monitors.alignment(self.extract_views(variables, self.few)),
            "uniformity": monitors.uniformity(queries[:IMAGES]),
        }
        numbers = {self.split + name: float(value) for name, value in numbers.items()}
        if self.k:
            accuracy = self.accuracy(bank, self.bank.labels, queries, self.queries.labels)
            numbers = {"val_knn_accuracy": accuracy, **numbers}
        if jax.process_index() == 0:
            if self.collapsed(numbers):
                tqdm.write(monitors.collapse_line(*self._spreads(numbers)))
            if self.folder:
                self.draw_neighbours(bank, queries[: SHOWN[0]])
        return numbers

    def collapsed(self, numbers: dict[str, float]) -> bool:
        """Whether the features of all images, or what the loss sees of them, are nearly the same."""
        return min(self._spreads(numbers)) < monitors.COLLAPSED

    def _spreads(self, numbers: dict[str, float]) -> tuple[float, float]:
        return numbers[f"{self.split}feature_std"], numbers[f"{self.split}projection_std"]

    def test(self, variables: PyTree, bank: Dataset, test: Dataset) -> float:
        """The kNN accuracy of a test split among all images of a labelled set."""
        return self.accuracy(self.extract(variables, bank), bank.labels, self.extract(variables, test), test.labels)

    def draw_neighbours(self, bank: np.ndarray, queries: np.ndarray) -> None:
        """Writes neighbours.png: in each row an image and those of the bank that are nearest to it."""
        near = np.asarray(knn.nearest(bank, queries, min(SHOWN[1], len(bank))))
        own = self.queries.take(np.arange(len(queries)))
        rows = [np.concatenate([image[None], self.bank.take(row)]) for image, row in zip(own, near, strict=True)]
        image_rows(np.stack(rows), self.folder / "neighbours.png")


def image_rows(rows: np.ndarray, path: Path) -> None:
    """Rows of small pictures, uint8 [r, n, h, w, 3]: an image first, then, after a gap, what belongs to it."""
    r, n, h = rows.shape[:3]
    scale, gap = max(1, 64 // h), 2
    rows = rows.repeat(scale, 2).repeat(scale, 3)
    cell = np.pad(rows, ((0, 0), (0, 0), (gap, gap), (gap, gap), (0, 0)), constant_values=255)
    lines = cell.swapaxes(1, 2).reshape(r * cell.shape[2], n * cell.shape[3], 3)
    lines = np.insert(lines, [cell.shape[3]] * (4 * gap), 255, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(lines).save(path)
