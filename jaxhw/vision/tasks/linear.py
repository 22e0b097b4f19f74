"""The linear protocol (the offline linear probe): how well a frozen backbone's features separate the classes.

Features are computed once, without augmentation and with the running batch statistics, and kept in the workdir. On them
a grid of softmax regressions, one for each learning rate and L2 penalty, trains side by side as one stacked head. The
validation split chooses one, which is tested as it is, once: the held-out images are not added to its training.
"""

import itertools
import json
import os
import zipfile
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
from jaxhw.errors import UserError
from jaxhw.vision.data import datasets, loader
from jaxhw.vision.evaluation import knn
from jaxhw.vision.evaluation.features import Extractor
from jaxhw.vision.models import registry as models
from jaxhw.vision.tasks.classify import load_splits, write_labels
from jaxhw.vision.tasks.pretrain import Backbone
from jaxhw.vision.weights import sources as weights

PyTree = Any
CHUNK = 1024  # images scored at once, by all heads


def default_config(model: str = "resnet18") -> ConfigDict:
    """Every key of a linear protocol's config, with the options of ``model``."""
    config = configs.base("linear")
    with config.unlocked():
        config.update(
            datasets.default_options()
            | {
                "validation": 0.1,  # fraction of the training set that chooses rate and penalty
                "test": True,
                "model": {"name": model, **models.options(model)},
                "standardise": True,  # features to mean 0 and deviation 1, by the training images
                "rates": (0.003, 0.01, 0.03, 0.1, 0.3),  # times optim's schedule
                "l2": (0.0, 1e-4, 1e-3, 1e-2, 1e-1),  # loss = cross-entropy + l2 / 2 |kernel|^2
                "knn_k": 200,
                "knn_temperature": 0.1,
            }
        )
    config.update({"batch_size": 512, "epochs": 100.0, "log_every": 200, "eval_every": 500, "checkpoint_every": 2000})
    config.optim.update({"name": "sgd", "lr": 1.0, "schedule": "cosine"})
    return config


class Linear:
    """A grid of linear heads on a frozen backbone; see :class:`jaxhw.task.Task` for what each method promises.

    ``TrainState.params`` is {"head": {"kernel": [g, d, c], "bias": [g, c]}} for the g points of the grid, all zero at
    the start; model_state holds the backbone, so that the workdir needs its source no more.
    """

    unit = "images"
    metric_names = ("loss", "accuracy")

    def __init__(self, config: ConfigDict, mesh: Mesh):
        _check(config)
        self.config = config
        self.train, self.splits = load_splits(config)
        self.names, size = self.train.names, self.train.image_size
        self.backbone = Backbone(config, size)
        self.extract = Extractor(self.backbone.features, config.batch_size, mesh)
        self.steps_per_epoch = len(self.train) / config.batch_size
        self.steps = configs.steps(config, self.steps_per_epoch)
        self.grid = np.array(list(itertools.product(config.rates, config.l2)), np.float32)  # [g, 2]
        self.data: dict[str, np.ndarray] = {}

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        image = jnp.zeros((1, self.train.image_size, self.train.image_size, 3))
        features, backbone = self.backbone.model.init_with_output(rng, image, train=False)
        g, d, c = len(self.grid), features.shape[1], len(self.names)
        return {"head": {"kernel": jnp.zeros((g, d, c)), "bias": jnp.zeros((g, c))}}, {"backbone": backbone}

    def pretrained(self, shapes: PyTree) -> PyTree:
        like, config = shapes["model_state"]["backbone"], self.config
        backbone = weights.load(config.init_from, like, config.normalise, config.model.get("heads"))
        return {"model_state": {"backbone": backbone}}

    def finite(self, params: PyTree) -> jax.Array:
        """One head is enough: those whose rate is too high for them leave the others alone."""
        return jnp.isfinite(jax.vmap(optax.tree.norm)(params["head"])).any()

    def prepare(self, variables: PyTree, workdir: Path) -> None:
        """Computes the features of all splits, or reads what a run before this one left."""
        path = workdir / "features.npz"
        # before the first checkpoint the weights are read anew, and their run may have gone on
        found = _read(path) if checkpoint.exists(workdir) else None
        if meshes.any_process(found is None):
            sets = {"train": self.train, **self.splits}
            found = {name: self.extract(variables["model_state"]["backbone"], s) for name, s in sets.items()}
            if jax.process_index() == 0:
                _write(path, found)
        self.data = found
        mean, deviation = found["train"].mean(0), found["train"].std(0)
        if not self.config.standardise:
            mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
        deviation[deviation == 0] = 1  # a feature that never changes stays 0
        self.inputs = {name: (x - mean) / deviation for name, x in found.items()}

    def batch(self, step: int) -> PyTree:
        size = self.config.batch_size
        mine = loader.batch_indices(self.config.seed, step, size, len(self.train))[meshes.my_rows(size)]
        return {"feature": self.inputs["train"][mine], "label": self.train.labels[mine]}

    def loss(self, params, model_state, batch, rng):
        """The heads' losses, each times its rate: SGD is linear in the gradient, so that is its learning rate."""
        rates, l2 = jnp.asarray(self.grid).T
        losses, right = _losses(params["head"], batch["feature"], batch["label"])
        penalties = 0.5 * l2 * jnp.sum(jnp.square(params["head"]["kernel"]), (1, 2))
        total = jnp.sum(rates * (losses.mean(0) + penalties))
        # a head whose rate is too high may go to infinity without a word
        return total, (model_state, {"loss": jnp.nanmin(losses.mean(0)), "accuracy": right.mean(0).max()})

    def evaluate(self, variables: PyTree, step: int) -> dict[str, float]:
        accuracies, losses = self.score(variables, "val")
        best = _best(accuracies, losses)
        return {"val_accuracy": float(accuracies[best]), "val_loss": float(losses[best])}

    def score(self, variables: PyTree, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(accuracies [g], mean cross-entropies [g]) of all heads on a split."""
        x, labels = self.inputs[split], self.splits.get(split, self.train).labels
        chunks = np.array_split(np.arange(len(x)), -(-len(x) // CHUNK))
        sums = [jax.device_get(_sums(variables["params"]["head"], x[i], labels[i])) for i in chunks]
        losses, right = (np.sum(part, 0) / len(x) for part in zip(*sums, strict=True))
        return right, losses

    def describe(self, workdir: Path) -> None:
        write_labels(workdir, self.names, self.train.image_size)

    def finish(self, variables: PyTree, workdir: Path) -> dict[str, Any]:
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
        if "test" in self.splits:
            results |= self.test(variables, best)
        if jax.process_index() == 0:
            files.write(workdir / "grid.json", json.dumps(rows, indent=2) + "\n")
            best_first = [rows[best], *rows[:best], *rows[best + 1 :]]
            plots.sweep(best_first, ("rate", "l2"), "val_accuracy", workdir / "grid.png")
            plots.curves(workdir / "metrics.jsonl", workdir / "curves.png")
        return results

    def test(self, variables: PyTree, best: int) -> dict[str, Any]:
        """The chosen head's accuracy on the test split, and that of the nearest neighbours."""
        accuracy, images = float(self.score(variables, "test")[0][best]), len(self.splits["test"])
        return {"test_accuracy": accuracy, "test_images": images, "test_knn_accuracy": self.neighbours("test")}

    def neighbours(self, split: str) -> float:
        """The kNN accuracy of a split among the training images."""
        config, bank, queries = self.config, self.data["train"], self.data[split]
        labels = self.train.labels, self.splits[split].labels
        return knn.accuracy(bank, labels[0], queries, labels[1], config.knn_k, config.knn_temperature)


def _losses(head: PyTree, x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(cross-entropy [b, g], right or wrong [b, g]) of features [b, d] and labels [b]."""
    logits = jnp.einsum("bd,gdc->bgc", x, head["kernel"], preferred_element_type=jnp.float32) + head["bias"]
    labels = jnp.broadcast_to(labels[:, None], logits.shape[:2])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses, logits.argmax(-1) == labels


@jax.jit
def _sums(head: PyTree, x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    losses, right = _losses(head, x, labels)
    return losses.sum(0), right.sum(0)


def _best(accuracies: np.ndarray, losses: np.ndarray) -> int:
    """The highest accuracy; among equals the lowest loss."""
    return int(np.lexsort((np.nan_to_num(losses, nan=np.inf), -accuracies))[0])


def _read(path: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    partial = path.with_suffix(".tmp.npz")
    np.savez(partial, **arrays)
    os.replace(partial, path)


def _check(config: ConfigDict) -> None:
    if not config.validation:
        raise UserError("the linear protocol chooses rate and l2 on held-out images: set config.validation, to 0.1 say")
    if config.optim.name != "sgd" or config.optim.weight_decay or config.optim.clip_norm:
        raise UserError("the rates of the linear protocol's grid need optim.name=sgd, weight_decay=0 and clip_norm=0")
    for name, least in (("rates", "above 0"), ("l2", "of at least 0")):
        numbers = config[name]
        usable = all(isinstance(v, int | float) and 0 <= v < np.inf and (v or name == "l2") for v in numbers)
        if not numbers or not usable:
            raise UserError(f"config.{name}={numbers}: give finite numbers {least}")
    knn.check(config.knn_k, config.knn_temperature)
