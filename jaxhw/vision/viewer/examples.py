"""What a classifier gets wrong: confusions, its worst pictures, and the training pictures that are nearest to them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import mesh as meshes
from jaxhw import metrics, plots
from jaxhw.checkpoint import restore_variables
from jaxhw.vision.data.datasets import Dataset
from jaxhw.vision.evaluation import knn
from jaxhw.vision.evaluation.features import Extractor
from jaxhw.vision.ssl.feature_monitor import image_rows
from jaxhw.vision.tasks import classify
from jaxhw.vision.tasks.encoder import Encoder
from jaxhw.vision.tasks.trained import Predictive, Probe, open_run

PyTree = Any
IMAGES, BANK = 2000, 5000  # looked at, so that a run that trains beside it loses little
WORST, NEIGHBOURS = 12, 6  # rows, and pictures in each


@dataclasses.dataclass(frozen=True)
class Row:
    """One of the worst pictures: the file with its neighbours beside it, and what it is taken for."""

    file: Path
    text: str


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a checkpoint's predictions on some held-out images show."""

    summary: str
    confusion: Path
    worst: tuple[Row, ...]


class Examiner:
    """Looks at a run's predictions, again for each of its checkpoints.

    The test split is scored when the run is finished, as everywhere; until then the validation split stands for it
    where there is one.

    Args:
      dataset: where the run's data set lies now; empty: where the run found it.
      folder: where pictures go.

    Raises:
      UserError: the run is no classifier or its data are not there.
    """

    def __init__(self, workdir: Path, dataset: str, folder: Path, mesh: Mesh):
        self.workdir, self.folder, self.mesh = workdir, folder, mesh
        config, self.predictive = open_run(workdir)
        with config.unlocked():
            config.dataset, config.image_size = dataset or config.dataset, self.predictive.image_size
        train, splits = classify.load_splits(config)
        rng = np.random.default_rng(config.seed)
        self.bank, self.splits = _some(rng, train, BANK), {k: _some(rng, v, IMAGES) for k, v in splits.items()}
        size = config.batch_size - config.batch_size % -mesh.size
        self.logits = Extractor(self.predictive.logits, size, mesh)
        self.features = Extractor(_features(config, self.predictive), size, mesh)

    def __call__(self) -> Examples:
        """What the newest checkpoint gives.

        Raises:
          UserError: there is none, or it cannot be read.
        """
        # Predictions of all pictures, their losses, and the worst of them with what lies near.
        variables = restore_variables(self.workdir, meshes.replicated(self.mesh))
        split = "val" if "val" in self.splits and not metrics.results(self.workdir) else "test"
        images, names = self.splits[split], self.predictive.names
        logits, labels = self.logits(variables, images), images.labels
        losses = np.asarray(optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), labels))
        worst = np.argsort(-np.nan_to_num(losses, nan=np.inf))[:WORST]
        bank = self.features(variables, self.bank)
        near = knn.nearest(bank, self.features(variables, images.subset(worst)), min(NEIGHBOURS, len(bank)))
        # The pictures of it.
        counts = np.zeros((len(names), len(names)), np.int64)
        np.add.at(counts, (labels, logits.argmax(1)), 1)
        plots.confusion_matrix(counts, names, self.folder / "confusion.png")
        rows = tuple(
            self._row(n, images.subset([i]), logits[i], np.asarray(row))
            for n, (i, row) in enumerate(zip(worst, near, strict=True))
        )
        accuracy = np.trace(counts) / counts.sum()
        summary = f"{accuracy:.1%} of {len(labels)} pictures of the split {split} are right"
        return Examples(summary, self.folder / "confusion.png", rows)

    def _row(self, number: int, image: Dataset, logits: np.ndarray, near: np.ndarray) -> Row:
        path, names = self.folder / f"worst_{number}.png", self.predictive.names
        image_rows(np.concatenate([image.take([0]), self.bank.take(near)])[None], path)
        shares, true = np.asarray(jax.nn.softmax(logits)), image.labels[0]
        taken = int(shares.argmax())
        text = f"{names[true]} ({shares[true]:.1%}), taken for {names[taken]} ({shares[taken]:.1%})"
        return Row(path, text)


def _some(rng: np.random.Generator, images: Dataset, count: int) -> Dataset:
    return images.subset(np.sort(rng.permutation(len(images))[:count]))


def _features(config: ConfigDict, predictive: Predictive) -> Callable[[PyTree, jax.Array], jax.Array]:
    """The function from (variables, images) to what the model's head is given."""
    if isinstance(predictive, Probe):
        return lambda variables, images: predictive.encoder.features(variables.model_state["backbone"], images)
    encoder = Encoder(config, predictive.image_size)
    return lambda variables, images: encoder.features(classify.Classify.backbone(variables), images)
