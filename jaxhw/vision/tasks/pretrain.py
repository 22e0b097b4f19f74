"""Self-supervised pre-training: the task behind configs/simclr.py, configs/byol.py and their like."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw import plots
from jaxhw.errors import UserError
from jaxhw.vision.augment import standard as augment
from jaxhw.vision.augment import views
from jaxhw.vision.data import datasets, loader, splits
from jaxhw.vision.evaluation import knn
from jaxhw.vision.models import parts
from jaxhw.vision.models import registry as models
from jaxhw.vision.models.networks import Networks
from jaxhw.vision.ssl import methods, monitors
from jaxhw.vision.ssl.methods.base import Outputs
from jaxhw.vision.ssl.watch import IMAGES, Watch

PyTree = Any
TARGET = ("backbone", "projector")  # what a target network averages


def default_config(method: str, model: str = "resnet18") -> ConfigDict:
    """Every key of a pre-training config, with the options of the method and of the model."""
    config = configs.base("pretrain")
    with config.unlocked():
        config.update(
            datasets.default_options()
            | {
                "split": "train",  # what to learn from: "unlabelled" of tfds:stl10, say
                "model": {"name": model, **models.options(model)},
                "method": {"name": method, **methods.options(method)},
                "views": 2,  # of each image
                "augment": dict(views.SIMCLR),
                # kNN accuracy of the features: of held-out images while training, of the test split at the end
                "knn_dataset": "",  # a labelled set; "" is the set itself, where it has labels
                "knn_bank": 10000,  # images to find neighbours among; for the test split all are used
                "knn_k": 200,
                "knn_temperature": 0.1,
                "validation": 0.04,  # fraction of that set held out, also from the pre-training; 0: no kNN
                "test": True,  # whether to use the test split, at the end
            }
        )
    return config


class Pretrain:
    """A method of self-supervised learning on unlabelled images; see :class:`jaxhw.task.Task` for the promises.

    ``TrainState.params`` is {"backbone", "projector", "predictor" if there is one}, the backbone's tree being that of
    ``models.create(config.model, None, ...)``. The model_state holds "batch_stats" by the same names, and "target":
    the moving average of {"backbone", "projector"} of methods that have one.
    """

    unit = "images"
    metric_names = ("loss", "projection_std")

    def __init__(self, config: ConfigDict, mesh: Mesh):
        self.config = config
        self.method = methods.create(config.method)
        self.views = views.pipeline(config.augment.to_dict(), config.views)
        self.images = load(config)
        self.train, size = self.images.train, self.images.train.image_size
        views.check_size(config.augment, size)
        self.backbone = Backbone(config, size)
        heads = self.method.heads(models.DTYPES[config.dtype])
        self.networks = Networks({"backbone": self.backbone.model, **heads}, self.method.together, mesh)
        parts.check(config)
        check(config, len(self.train))
        self.steps_per_epoch = len(self.train) // config.batch_size
        self.steps = configs.steps(config, self.steps_per_epoch)
        self.watch = self.make_watch(mesh)

    def make_watch(self, mesh: Mesh) -> Watch:
        config, bank = self.config, self.images.bank
        few = np.random.default_rng(config.seed).permutation(len(bank))[: config.knn_bank]
        return Watch(
            lambda variables, images: self.backbone.of_pixels(of_module(variables, "backbone"), images),
            self.project,
            self.views,
            bank.subset(few),
            self.images.queries,
            config.knn_k if self.images.labelled else 0,
            config.knn_temperature,
            config.batch_size,
            mesh,
        )

    def project(self, variables: PyTree, features: jax.Array) -> jax.Array:
        """[b, d] -> [b, p], with the projector's running batch statistics."""
        return self.networks.modules["projector"].apply(of_module(variables, "projector"), features, train=False)

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        params, stats = self.networks.init(rng, self.train.image_size)
        state = {"batch_stats": stats}
        if self.method.target:
            state["target"] = {name: jax.tree.map(jnp.copy, params[name]) for name in TARGET}
        return params, state

    def batch(self, step: int) -> PyTree:
        size = self.config.batch_size
        indices = loader.distinct_indices(self.config.seed, step, size, len(self.train))
        return {"image": self.train.take(indices[meshes.my_rows(size)])}

    def loss(self, params, model_state, batch, rng):
        view_rng, dropout_rng = jax.random.split(rng)
        images = self.views(jax.random.split(view_rng, len(batch["image"])), batch["image"])
        images, stats = self.backbone.normalise(images), model_state["batch_stats"]
        online, new_stats = self.networks(params, stats, images, dropout_rng)
        targets = None
        if self.method.target:  # in training mode like the online network; its running statistics are never used
            targets = self.networks(model_state["target"], stats, images, dropout_rng)[0]["projector"]
        outputs = Outputs(online["projector"], online.get("predictor"), targets)
        loss = self.method.loss(outputs)
        spread = monitors.spread(jax.lax.stop_gradient(outputs.projections[:, 0]))
        return loss, ({**model_state, "batch_stats": new_stats}, {"loss": loss, "projection_std": spread})

    def after_update(self, params: PyTree, model_state: PyTree, step: jax.Array) -> PyTree:
        """target += (1 - tau) (online - target), of parameters only."""
        if not self.method.target:
            return model_state
        rate = 1 - self.method.decay(step / self.steps)
        online = {name: params[name] for name in TARGET}
        target = jax.tree.map(lambda old, new: old + rate * (new - old), model_state["target"], online)
        return {**model_state, "target": target}

    def evaluate(self, variables: PyTree, step: int) -> dict[str, float]:
        return self.watch(variables)

    def describe(self, workdir: Path) -> None:
        self.watch.folder = workdir  # for the picture of neighbours, renewed while training

    def finish(self, variables: PyTree, workdir: Path) -> dict[str, Any]:
        results = {"dataset": self.config.dataset, "train_images": len(self.train), "method": self.config.method.name}
        results |= self.watch(variables)
        results["collapsed"] = self.watch.collapsed(results)
        if self.images.test:
            results["test_knn_accuracy"] = self.watch.test(variables, self.images.bank, self.images.test)
            results["test_images"] = len(self.images.test)
        if jax.process_index() == 0:
            panels = ("loss", "knn_accuracy", "feature_std", "projection_std", "alignment", "uniformity")
            plots.curves(workdir / "metrics.jsonl", workdir / "curves.png", panels)
        return results


@dataclass(frozen=True)
class Images:
    """The sets of a run. Where `labelled`, kNN accuracy can be had of `queries` (and `test`) with `bank`.

    Attributes:
      train: what is learnt from.
      bank: where neighbours are looked for.
      queries: images held out, in random order; of an unlabelled set a few of those learnt from.
      test: the test split of the labelled set, or None; also where that split has no labels.
    """

    train: datasets.Dataset
    bank: datasets.Dataset
    queries: datasets.Dataset
    test: datasets.Dataset | None
    labelled: bool


def check(config: ConfigDict, images: int) -> None:
    """Raises a UserError for numbers that cannot be meant."""
    for name, least in (("batch_size", 2), ("knn_bank", 1)):
        if config[name] < least:
            raise UserError(f"config.{name}={config[name]} must be at least {least}")
    knn.check(config.knn_k, config.knn_temperature)
    if images < config.batch_size:
        raise UserError(
            f"{config.dataset} has {images} images to learn from, fewer than batch_size={config.batch_size}; "
            "no image may come twice in a batch: lower config.batch_size"
        )


def load(config: ConfigDict) -> Images:
    """Loads what the config names."""
    where = config.data_dir or None
    other = bool(config.knn_dataset) and (config.knn_dataset, "train") != (config.dataset, config.split)
    rng = np.random.default_rng(config.seed)
    train = datasets.load(config.dataset, config.split, config.image_size or None, where)
    size, spec = train.image_size, config.knn_dataset if other else config.dataset
    bank = datasets.load(spec, "train", size, where) if other else train
    labelled = bool(config.validation) and bank.labels.min() >= 0
    if labelled:
        kept, cut = datasets.split_validation(bank.labels, config.validation, config.seed)
        bank, queries = bank.subset(kept), bank.subset(rng.permutation(cut))  # the first are looked at more closely
        train = train if other else bank
    else:
        order = rng.permutation(len(bank))
        few = min(IMAGES, len(bank) // 2)
        bank, queries = bank.subset(order[few:]), bank.subset(order[:few])
    if config.fraction != 1:
        train = train.subset(splits.subset(train.labels, config.fraction, config.seed))
    test = datasets.load(spec, "test", size, where) if config.test and labelled else None
    scored = test is not None and test.labels.min() >= 0
    return Images(train, bank, queries, test if scored else None, labelled)


class Backbone:
    """The trained function from pictures to features, with the pre-processing that belongs to it."""

    def __init__(self, config: ConfigDict, image_size: int):
        self.model = models.create(config.model, None, image_size, config.dtype)
        self.normalise = augment.normaliser(config.normalise)

    def features(self, variables: PyTree, images: jax.Array) -> jax.Array:
        """uint8 images [b, h, w, 3] -> [b, d]; ``variables`` are the model's."""
        return self.of_pixels(variables, images.astype(jnp.float32) / 255)

    def of_pixels(self, variables: PyTree, images: jax.Array) -> jax.Array:
        """Images [b, h, w, 3] in [0, 1] -> [b, d], with the running batch statistics."""
        return self.model.apply(variables, self.normalise(images), train=False)


def of_module(variables: PyTree, name: str) -> PyTree:
    """{"params", "batch_stats"} of one module, as it takes them, out of a pre-training run's variables."""
    stats = variables["model_state"]["batch_stats"]
    return {"params": variables["params"][name]} | ({"batch_stats": stats[name]} if name in stats else {})
