"""Self-supervised pre-training: the task behind configs/simclr.py, configs/byol.py and their like.

Shapes: v views of b images, [b, v, h, w, c]; features have d numbers, projections p.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw import plots
from jaxhw.contents import Content
from jaxhw.errors import UserError
from jaxhw.options import at_least, below, defaults, option, require
from jaxhw.program import Program
from jaxhw.state import Variables
from jaxhw.task import Context, Sizes, Task
from jaxhw.vision.augment import views
from jaxhw.vision.data import datasets, loader
from jaxhw.vision.data.stand_in import stand_in
from jaxhw.vision.evaluation import knn
from jaxhw.vision.models import parts, registry
from jaxhw.vision.models.networks import Networks
from jaxhw.vision.ssl import methods, monitors
from jaxhw.vision.ssl.feature_monitor import FeatureMonitor, Functions, Sets
from jaxhw.vision.ssl.methods.base import Outputs
from jaxhw.vision.tasks import pretrain_images
from jaxhw.vision.tasks.encoder import Encoder
from jaxhw.vision.weights import sources

PyTree = Any
TARGET = ("backbone", "projector")  # what a target network averages


@dataclass(frozen=True)
class Options(datasets.Options, knn.Options):
    """The options of a pre-training run beside those of its model, method and augmentation.

    The k-nearest-neighbour accuracy of the features is measured on held-out images while training and on the test split
    at the end.
    """

    split: str = option("train", 'what to learn from: "unlabelled" of tfds:stl10, say')
    views: int = option(2, "of each image, see jaxhw.vision.augment.views.pipeline")
    knn_dataset: str = option("", "a labelled set for kNN; empty is the set itself, where it has labels")
    knn_bank: int = option(10000, "images to find neighbours among; for the test split all are used", at_least(1))
    validation: float = option(
        0.04, "fraction of that set held out, also from the pre-training; 0: no kNN", at_least(0), below(1)
    )
    test: bool = option(True, "whether to use the test split, at the end")


def default_config(method: str, model: str = "resnet18") -> ConfigDict:
    """Every key of a pre-training config, with the options of the method and of the model."""
    config = configs.base("pretrain")
    with config.unlocked():
        config.update(
            defaults(Options)
            | {
                "model": {"name": model, **registry.options(model)},
                "method": {"name": method, **methods.options(method)},
                "augment": defaults(views.Views),
            }
        )
    return config


class Pretrain(Task):
    """A method of self-supervised learning on unlabelled images; see :class:`jaxhw.task.Task` for the promises.

    ``TrainState.params`` is {"backbone", "projector", "predictor" if there is one}, the backbone's tree being that of
    ``registry.create(config.model, None, ...)``. The model_state holds "batch_stats" by the same names, and "target":
    the target network's {"backbone", "projector"}, an exponential moving average, of methods that have one.
    """

    unit = "images"
    metric_names = ("loss", "projection_std")

    def __init__(self, config: ConfigDict, mesh: Mesh):
        # Options that need no data to be checked, the method, and the augmentation that draws its views.
        self.config, options = config, Options.of(config)
        require("config.batch_size", config.batch_size, at_least(2), kind=int)
        self.method = methods.create(config.method)
        if not self.method.divides:
            self.indivisible = f"the loss of {config.method.name} compares all images of a batch"
        self.views = views.pipeline(config.augment.to_dict(), config.views)
        # The images, and the networks that their size fits.
        self.images = pretrain_images.load(config)
        self.train, size = self.images.train, self.images.train.image_size
        views.check_size(config.augment, size)
        self.encoder = Encoder(config, size)
        parts.check(config, batch_norm=True)  # that of the heads
        heads = self.method.heads(registry.DTYPES[config.dtype])
        self.networks = Networks({"backbone": self.encoder.model, **heads}, self.method.together, mesh)
        # The length of the run: an epoch is a whole number of batches, none of which holds an image twice.
        _check_batch(config, len(self.train))
        self.steps_per_epoch = len(self.train) // config.batch_size
        self.steps = configs.steps(config, self.steps_per_epoch)
        self.monitor = self._make_monitor(options, mesh)

    def _make_monitor(self, options: Options, mesh: Mesh) -> FeatureMonitor:
        # While training, a part of the bank is enough: each evaluation computes its features anew.
        config, bank = self.config, self.images.bank
        few = np.random.default_rng(config.seed).permutation(len(bank))[: config.knn_bank]
        functions = Functions(
            features=lambda variables, images: self.encoder.of_pixels(of_module(variables, "backbone"), images),
            project=self.project,
            draw=self.views,
        )
        sets = Sets(bank=bank.subset(few), queries=self.images.queries, labelled=self.images.labelled)
        return FeatureMonitor(functions, sets, options, config.batch_size, mesh)

    def project(self, variables: PyTree, features: jax.Array) -> jax.Array:
        """[b, d] -> [b, p], with the projector's running batch statistics."""
        return self.networks.modules["projector"].apply(of_module(variables, "projector"), features, train=False)

    @staticmethod
    def without_data(config: ConfigDict, sizes: Sizes) -> ConfigDict:
        return stand_in(config, sizes)

    def programs(self, variables: Variables) -> dict[str, Program]:
        return {"eval": self.monitor.extract.program(variables, self.train)}

    def init(self, rng: jax.Array) -> Variables:
        params, stats = jax.jit(self.networks.init, static_argnums=1)(rng, self.train.image_size)
        state = {"batch_stats": stats}
        if self.method.target:
            state["target"] = {name: params[name] for name in TARGET}
        return Variables(params, state)

    def init_from(self, shapes: Variables) -> PyTree:
        """The backbone of another run or file; projector and predictor start anew, as they belong to a method."""
        config, stats = self.config, shapes.model_state["batch_stats"].get("backbone", {})
        like = {"params": shapes.params["backbone"], "batch_stats": stats}
        found = sources.load(config.init_from, like, config.normalise, config.model.get("heads"))
        state = {"batch_stats": {"backbone": found["batch_stats"]}} if stats else {}
        if self.method.target:  # which begins where the online network does
            state["target"] = {"backbone": found["params"]}
        return {"params": {"backbone": found["params"]}, "model_state": state}

    @staticmethod
    def backbone(variables: Variables) -> PyTree:
        stats = variables.model_state["batch_stats"]
        return {"params": variables.params["backbone"], "batch_stats": stats.get("backbone", {})}

    def batch(self, step: int) -> PyTree:
        size = self.config.batch_size
        indices = loader.distinct_indices(self.config.seed, step, size, len(self.train))
        return {"image": self.train.take(indices[meshes.my_rows(size)])}

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        return self.part_loss(params, model_state, self.augmented(batch, context), context)

    def augmented(self, batch: PyTree, context: Context) -> PyTree:
        """Views of each image."""
        view_rng, _ = jax.random.split(context.rng)
        return {"views": self.views(jax.random.split(view_rng, len(batch["image"])), batch["image"])}

    def part_loss(
        self, params: PyTree, model_state: PyTree, part: PyTree, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        # What the online network makes of the views.
        _, dropout_rng = jax.random.split(context.rng)
        images, stats = self.encoder.normalise(part["views"]), model_state["batch_stats"]
        online, new_stats = self.networks(params, stats, images, dropout_rng)
        # The target network runs in training mode like the online network; its running statistics are never used.
        targets = None
        if self.method.target:
            targets = self.networks(model_state["target"], stats, images, dropout_rng)[0]["projector"]
        outputs = Outputs(online["projector"], online.get("predictor"), targets)
        loss = self.method.loss(outputs)
        # The projections' standard deviation shows a collapse as soon as it begins.
        spread = monitors.spread(jax.lax.stop_gradient(outputs.projections[:, 0]))
        return loss, ({**model_state, "batch_stats": new_stats}, {"loss": loss, "projection_std": spread})

    def after_update(self, variables: Variables, context: Context) -> PyTree:
        """The target network's step: target += (1 - tau) (online - target), of parameters only.

        That is the exponential moving average of the online network with the decay tau (a momentum encoder).
        """
        state = variables.model_state
        if not self.method.target:
            return state
        rate = 1 - self.method.decay(context.progress)
        online = {name: variables.params[name] for name in TARGET}
        target = jax.tree.map(lambda old, new: old + rate * (new - old), state["target"], online)
        return {**state, "target": target}

    def evaluate(self, variables: Variables, step: int) -> dict[str, float]:
        return self.monitor(variables)

    def contents(self) -> dict[str, Content]:
        # As `pretrain_images.load` reads them: the test split is that of the set for kNN.
        config, test = self.config, ["test"] if self.images.test else []
        sets = {"dataset": [config.split] + ([] if config.knn_dataset else test)}
        if config.knn_dataset:
            sets["knn_dataset"] = ["train", *test]
        found = {key: datasets.content(config[key], names) for key, names in sets.items()}
        return {key: content for key, content in found.items() if content}

    def describe(self, workdir: Path) -> None:
        self.monitor.folder = workdir  # for the picture of neighbours, renewed while training

    def finish(self, variables: Variables, workdir: Path) -> dict[str, Any]:
        results = {"dataset": self.config.dataset, "train_images": len(self.train), "method": self.config.method.name}
        # The same numbers as while training, then, once, the test split's.
        results |= self.monitor(variables)
        results["collapsed"] = self.monitor.collapsed(results)
        if self.images.test:
            results["test_knn_accuracy"] = self.monitor.test(variables, self.images.bank, self.images.test)
            results["test_images"] = len(self.images.test)
        if jax.process_index() == 0:
            panels = ("loss", "knn_accuracy", "feature_std", "projection_std", "alignment", "uniformity")
            plots.curves(workdir / "metrics.jsonl", workdir / "curves.png", panels)
        return results


def _check_batch(config: ConfigDict, images: int) -> None:
    """Raises a UserError where a batch would hold an image twice, its own negative."""
    if images < config.batch_size:
        raise UserError(
            f"config.batch_size={config.batch_size}: {config.dataset} has only {images} images to learn from, and no "
            "image may come twice in a batch: lower it"
        )


def of_module(variables: Variables, name: str) -> PyTree:
    """{"params", "batch_stats"} of one module, as it takes them, out of a pre-training run's variables."""
    stats = variables.model_state["batch_stats"]
    return {"params": variables.params[name]} | ({"batch_stats": stats[name]} if name in stats else {})
