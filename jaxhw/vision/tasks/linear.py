"""The linear evaluation protocol (an offline linear probe): how well a frozen backbone's features separate the classes.

Features are computed once, without augmentation and with the running batch statistics, and kept in the workdir. On them
a grid of softmax regressions, one for each learning rate and L2 penalty, trains side by side as one stacked head. The
validation split chooses one, which is tested as it is, once: the held-out images are not added to its training.

Shapes: b images with d features and c classes; g heads, one for each point of the grid.
"""

import itertools
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import checkpoint, files, plots
from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.contents import Content
from jaxhw.errors import UserError
from jaxhw.options import above, at_least, below, defaults, each, option
from jaxhw.program import Program
from jaxhw.state import Variables
from jaxhw.task import Context, Sizes, Task
from jaxhw.vision.data import datasets, loader
from jaxhw.vision.data.stand_in import stand_in
from jaxhw.vision.evaluation import knn
from jaxhw.vision.evaluation.features import Extractor
from jaxhw.vision.models import registry
from jaxhw.vision.tasks.classify import contents, load_splits, write_labels
from jaxhw.vision.tasks.encoder import Encoder
from jaxhw.vision.weights import sources

PyTree = Any
CHUNK = 1024  # images scored at once, by all heads


@dataclass(frozen=True)
class Options(datasets.Options, knn.Options):
    """The options of a linear probe beside those of its model."""

    validation: float = option(0.1, "fraction of the training set that chooses rate and penalty", at_least(0), below(1))
    test: bool = option(True, "evaluate the test split, at the end")
    standardise: bool = option(True, "features to mean 0 and deviation 1, by the training images")
    rates: tuple[float, ...] = option((0.003, 0.01, 0.03, 0.1, 0.3), "times optim's schedule", each(above(0)))
    l2: tuple[float, ...] = option(
        (0.0, 1e-4, 1e-3, 1e-2, 1e-1), "loss = cross-entropy + l2 / 2 |kernel|^2", each(at_least(0))
    )


def default_config(model: str = "resnet18") -> ConfigDict:
    """Every key of a linear probe's config, with the options of ``model``."""
    config = configs.base("linear")
    with config.unlocked():
        config.update(defaults(Options) | {"model": {"name": model, **registry.options(model)}})
    config.update({"batch_size": 512, "epochs": 100.0, "log_every": 200, "eval_every": 500, "checkpoint_every": 2000})
    config.optim.update({"name": "sgd", "lr": 1.0, "schedule": "cosine"})
    return config


class Linear(Task):
    """A grid of linear heads on a frozen backbone; see :class:`jaxhw.task.Task` for what each method promises.

    ``TrainState.params`` is {"head": {"kernel": [g, d, c], "bias": [g, c]}} for the g points of the grid, all zero at
    the start; model_state holds the backbone, so that the workdir needs its source no more.
    """

    unit = "images"
    metric_names = ("loss", "accuracy")
    indivisible = "of the heads, the best one for a whole batch is reported"

    def __init__(self, config: ConfigDict, mesh: Mesh):
        _check(config)
        self.config, self.options = config, Options.of(config)
        self.train, self.splits = load_splits(config)
        self.names, size = self.train.names, self.train.image_size
        self.encoder = Encoder(config, size)
        self.extract = Extractor(self.encoder.features, config.batch_size, mesh)
        self.steps_per_epoch = len(self.train) / config.batch_size
        self.steps = configs.steps(config, self.steps_per_epoch)
        self.grid = grid(config)
        self.data: dict[str, np.ndarray] = {}

    @staticmethod
    def without_data(config: ConfigDict, sizes: Sizes) -> ConfigDict:
        return stand_in(config, sizes)

    def batch_shapes(self) -> PyTree:
        """Of features, which need not have been computed."""
        b, variables = self.config.batch_size, self.variable_shapes()
        d = variables.params["head"]["kernel"].shape[1]
        return {"feature": jax.ShapeDtypeStruct((b, d), np.float32), "label": jax.ShapeDtypeStruct((b,), np.int32)}

    def programs(self, variables: Variables) -> dict[str, Program]:
        return {"eval": self.extract.program(variables.model_state["backbone"], self.train)}

    def init(self, rng: jax.Array) -> Variables:
        image = jnp.zeros((1, self.train.image_size, self.train.image_size, 3))
        make = jax.jit(self.encoder.model.init_with_output, static_argnames="train")
        features, backbone = make(rng, image, train=False)
        g, d, c = len(self.grid), features.shape[1], len(self.names)
        head = {"kernel": np.zeros((g, d, c), np.float32), "bias": np.zeros((g, c), np.float32)}
        return Variables({"head": head}, {"backbone": backbone})

    @staticmethod
    def backbone(variables: Variables) -> PyTree:
        return variables.model_state["backbone"]

    def init_from(self, shapes: Variables) -> PyTree:
        like, config = shapes.model_state["backbone"], self.config
        backbone = sources.load(config.init_from, like, config.normalise, config.model.get("heads"))
        return {"model_state": {"backbone": backbone}}

    def finite(self, params: PyTree) -> jax.Array:
        """One head with finite weights is enough: one whose rate is too high diverges without touching the others."""
        return jnp.isfinite(jax.vmap(optax.tree.norm)(params["head"])).any()

    def prepare(self, variables: Variables, workdir: Path) -> None:
        """Computes the features of all splits, or reads what a run before this one left."""
        # Features in the workdir are those of a checkpoint's backbone. Before the first checkpoint the weights are read
        # again from their source, which may have trained on since: then features are computed again, too.
        path = workdir / "features.npz"
        found = _read(path) if checkpoint.exists(workdir) else None
        if meshes.any_process(found is None):
            sets = {"train": self.train, **self.splits}
            found = {name: self.extract(variables.model_state["backbone"], s) for name, s in sets.items()}
            if jax.process_index() == 0:
                with files.complete(path) as partial:
                    np.savez(partial, **found)
        self.data = found
        mean, deviation = standardisation(found["train"], self.config.standardise)
        self.inputs = {name: (x - mean) / deviation for name, x in found.items()}

    def batch(self, step: int) -> PyTree:
        size = self.config.batch_size
        mine = loader.batch_indices(self.config.seed, step, size, len(self.train))[meshes.my_rows(size)]
        return {"feature": self.inputs["train"][mine], "label": self.train.labels[mine]}

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """The sum of the heads' losses, each times its rate, and the best head's loss and accuracy.

        The step of SGD is linear in the gradient, so that a factor on a head's loss is a factor on its learning rate.
        """
        rates, l2 = jnp.asarray(self.grid).T
        head = meshes.gathered(params["head"], context.mesh)
        losses, right = _losses(head, batch["feature"], batch["label"])
        penalties = 0.5 * l2 * jnp.sum(jnp.square(head["kernel"]), (1, 2))
        total = jnp.sum(rates * (losses.mean(0) + penalties))
        # The smallest loss that is a number: a head whose rate is too high may diverge.
        return total, (model_state, {"loss": jnp.nanmin(losses.mean(0)), "accuracy": right.mean(0).max()})

    def evaluate(self, variables: Variables, step: int) -> dict[str, float]:
        accuracies, losses = self.score(variables, "val")
        best = _best(accuracies, losses)
        return {"val_accuracy": float(accuracies[best]), "val_loss": float(losses[best])}

    def score(self, variables: Variables, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(accuracies [g], mean cross-entropies [g]) of all heads on a split."""
        x, labels = self.inputs[split], self.splits.get(split, self.train).labels
        chunks = np.array_split(np.arange(len(x)), -(-len(x) // CHUNK))
        sums = [jax.device_get(_sums(variables.params["head"], x[i], labels[i])) for i in chunks]
        losses, right = (np.sum(part, 0) / len(x) for part in zip(*sums, strict=True))
        return right, losses

    def contents(self) -> dict[str, Content]:
        return contents(self.config)

    def describe(self, workdir: Path) -> None:
        write_labels(workdir, self.names, self.train.image_size)

    def finish(self, variables: Variables, workdir: Path) -> dict[str, Any]:
        # The validation split chooses one head.
        accuracies, losses = self.score(variables, "val")
        best = _best(accuracies, losses)
        rows = [
            {"rate": float(rate), "l2": float(l2), "value": float(accuracy)}
            for (rate, l2), accuracy in zip(self.grid, accuracies, strict=True)
        ]
        results = {
            "protocol": "offline linear probe",
            "dataset": self.config.dataset,
            "init_from": self.config.init_from,
            "train_images": len(self.train),
            "rate": rows[best]["rate"],
            "l2": rows[best]["l2"],
            "val_accuracy": float(accuracies[best]),
            "val_knn_accuracy": self.neighbours("val"),
            "val_images": len(self.splits["val"]),
        }
        # Only that head sees the test split.
        if "test" in self.splits:
            results |= self.test(variables, best)
        if jax.process_index() == 0:
            files.write(workdir / "grid.json", json.dumps(rows, indent=2) + "\n")
            best_first = [rows[best], *rows[:best], *rows[best + 1 :]]
            plots.sweep(best_first, ("rate", "l2"), "val_accuracy", workdir / "grid.png")
            plots.curves(workdir / "metrics.jsonl", workdir / "curves.png")
        return results

    def test(self, variables: Variables, best: int) -> dict[str, Any]:
        """The chosen head's accuracy on the test split, and that of the nearest neighbours."""
        accuracy, images = float(self.score(variables, "test")[0][best]), len(self.splits["test"])
        return {"test_accuracy": accuracy, "test_images": images, "test_knn_accuracy": self.neighbours("test")}

    def neighbours(self, split: str) -> float:
        """The kNN accuracy of a split among the training images."""
        bank, queries, o = self.data["train"], self.data[split], self.options
        labels = self.splits[split].labels
        return knn.accuracy(bank, self.train.labels, queries, labels, o.knn_k, o.knn_temperature)


def grid(config: ConfigDict) -> np.ndarray:
    """[g, 2] the learning rate and the L2 penalty of each head."""
    return np.array(list(itertools.product(config.rates, config.l2)), np.float32)


def standardisation(features: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray]:
    """(mean [d], deviation [d]) of the training images' features [n, d], by which those of all splits are standardised.

    A feature that never changes stays 0.
    """
    mean, deviation = features.mean(0), features.std(0)
    if not wanted:
        return np.zeros_like(mean), np.ones_like(deviation)
    deviation[deviation == 0] = 1
    return mean, deviation


def read_features(workdir: Path) -> dict[str, np.ndarray] | None:
    """The features [n, d] of each split that a run has left, if it has."""
    return _read(workdir / "features.npz")


def _losses(head: PyTree, x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(cross-entropies [b, g], whether the prediction is right [b, g]) of features x [b, d] and labels [b]."""
    logits = jnp.einsum("bd,gdc->bgc", x, head["kernel"], preferred_element_type=jnp.float32) + head["bias"]
    labels = jnp.broadcast_to(labels[:, None], logits.shape[:2])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses, logits.argmax(-1) == labels


@jax.jit
def _sums(head: PyTree, x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(summed cross-entropies [g], numbers of images classified correctly [g])."""
    losses, right = _losses(head, x, labels)
    return losses.sum(0), right.sum(0)


def _best(accuracies: np.ndarray, losses: np.ndarray) -> int:
    """The head of the highest accuracy; among equals that of the lowest loss."""
    return int(np.lexsort((np.nan_to_num(losses, nan=np.inf), -accuracies))[0])


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file, or None where there is no sound one."""
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _check(config: ConfigDict) -> None:
    """Raises a UserError for a config in which the grid's rates or their choice would have no meaning."""
    if not config.validation:
        raise UserError("config.validation=0 leaves no images to choose rate and l2 on: set it to 0.1, say")
    if config.optim.name != "sgd" or config.optim.weight_decay or config.optim.clip_norm:
        raise UserError(
            "config.optim must have name=sgd, weight_decay=0 and clip_norm=0: with others config.rates are no rates"
        )
