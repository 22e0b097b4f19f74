"""Supervised classification, from scratch or from other weights: the task of configs/vit.py and configs/finetune.py.

Shapes: b images [b, h, w, 3] of c classes, logits [b, c].
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import config as configs
from jaxhw import files, json_file, plots
from jaxhw import mesh as meshes
from jaxhw.contents import Content
from jaxhw.decoding import Levels
from jaxhw.errors import UserError
from jaxhw.options import Rule, at_least, below, defaults, option
from jaxhw.program import Program
from jaxhw.state import Variables
from jaxhw.task import Context, Sizes, Task
from jaxhw.vision.augment import mixing, standard
from jaxhw.vision.data import datasets, loader, splits
from jaxhw.vision.data.stand_in import stand_in
from jaxhw.vision.evaluation.scores import Evaluator, Scores
from jaxhw.vision.models import parts, registry
from jaxhw.vision.weights import sources

PyTree = Any
HEAD_ALONE = (("", 0.0), ("head", 1.0))  # groups of the optimiser
_SIZES = Rule(
    "of whole numbers of at least 1", lambda sizes: all(isinstance(size, int) and size >= 1 for size in sizes)
)


@dataclass(frozen=True)
class Options(datasets.Options):
    """The options of a classification run beside those of its model and augmentation."""

    validation: float = option(
        0.0, "fraction of the training set held out, watched while training", at_least(0), below(1)
    )
    test: bool = option(True, "evaluate the test split, at the end; while training where validation is 0")
    earlier_sizes: tuple[int, ...] = option(
        (), "progressive resizing: pixels of the training images in earlier, equally long phases of the run", _SIZES
    )
    frozen: bool = option(False, "train the head alone: the rest keeps its weights and its batch statistics")


def default_config(model: str) -> ConfigDict:
    """Every key of a classification config, with the options of ``model``; configs change what they need."""
    config = configs.base("classify")
    with config.unlocked():
        config.update(
            defaults(Options)
            | {
                "model": {"name": model, **registry.options(model)},
                "augment": defaults(standard.Standard),
            }
        )
    return config


class Classify(Task):
    """Cross-entropy on labelled images; see :class:`jaxhw.task.Task` for what each method promises."""

    unit = "images"
    metric_names = ("loss", "accuracy")

    def __init__(self, config: ConfigDict, mesh: Mesh):
        self.config = config
        Options.of(config)
        self.train, self.splits = load_splits(config)
        # Progressive resizing: the same rows at other sizes, in phases of the run.
        smaller = {size: load_splits(resized(config, size)) for size in set(config.earlier_sizes)}
        self.phases = [*(smaller[size] for size in config.earlier_sizes), (self.train, self.splits)]
        # The length of the run, and what is computed in it.
        self.names = self.train.names
        self.steps_per_epoch = len(self.train.labels) / config.batch_size
        self.steps = configs.steps(config, self.steps_per_epoch)
        self.classifier = Classifier(config, self.names, self.train.image_size)
        parts.check(config, batch_norm="norm_groups" in config.model and not config.frozen)
        self.apply = parts.in_training(self.classifier.model, mesh)
        self.groups = HEAD_ALONE if config.frozen else ()
        if config.frozen and any(not prefix.startswith("head") for prefix, _ in config.optim.groups):
            raise UserError(
                f"config.optim.groups={config.optim.groups} names more than the head, which config.frozen trains alone"
            )
        self.augment = standard.standard(config.augment.to_dict())
        self.evaluator = Evaluator(self.classifier.logits, len(self.names), config.batch_size, mesh)

    @staticmethod
    def without_data(config: ConfigDict, sizes: Sizes) -> ConfigDict:
        return stand_in(config, sizes)

    def programs(self, variables: Variables) -> dict[str, Program]:
        return {"eval": self.evaluator.program(variables, self.train)}

    def init(self, rng: jax.Array) -> Variables:
        image = jnp.zeros((1, self.train.image_size, self.train.image_size, 3))
        params, collections = registry.init(self.classifier.model, rng, image)
        return Variables(params, collections)

    @staticmethod
    def backbone(variables: Variables) -> PyTree:
        return {"params": variables.params, "batch_stats": variables.model_state.get("batch_stats", {})}

    def init_from(self, shapes: Variables) -> PyTree:
        like = {"params": shapes.params, **shapes.model_state}
        config = self.config
        found = sources.load(config.init_from, like, config.normalise, config.model.get("heads"))
        return {"params": found["params"], "model_state": {k: v for k, v in found.items() if k != "params"}}

    def batch(self, step: int) -> PyTree:
        size = self.config.batch_size
        indices = loader.batch_indices(self.config.seed, step, size, len(self.train.labels))
        mine, (train, _) = indices[meshes.my_rows(size)], self.phase(step)
        return {"image": train.take(mine), "label": train.labels[mine]}

    def phase(self, step: int) -> tuple[datasets.Dataset, dict[str, datasets.Dataset]]:
        """The training set and the splits at the size that step ``step`` sees."""
        return self.phases[step * len(self.phases) // self.steps]

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        return self.part_loss(params, model_state, self.augmented(batch, context), context)

    def augmented(self, batch: PyTree, context: Context) -> PyTree:
        # Each image by itself, then label smoothing, then mixtures of pairs of images, targets with them.
        options = self.config.augment
        image_rng, mix_rng, _ = jax.random.split(context.rng, 3)
        images = self.augment(jax.random.split(image_rng, len(batch["label"])), batch["image"])
        targets = mixing.smooth(batch["label"], len(self.names), options.label_smoothing)
        images, targets = mixing.mix(mix_rng, images, targets, options.mixup, options.cutmix, options.mix_probability)
        return {"image": images, "target": targets}

    def part_loss(
        self, params: PyTree, model_state: PyTree, part: PyTree, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        images, targets, dropout_rng = part["image"], part["target"], jax.random.split(context.rng, 3)[2]
        variables, images = {"params": params, **model_state}, self.classifier.normalise(images)
        # A frozen backbone is frozen in its batch statistics too, and has no dropout: it runs in evaluation mode.
        if self.config.frozen:
            variables = meshes.gathered(variables, context.mesh)
            logits, new_state = self.classifier.model.apply(variables, images, train=False), model_state
        else:
            logits, new_state = self.apply(variables, images, dropout_rng)
        # The accuracy on a mixture counts the class with the larger share.
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        accuracy = (logits.argmax(-1) == targets.argmax(-1)).mean()
        return loss, (new_state, {"loss": loss, "accuracy": accuracy})

    def evaluate(self, variables: Variables, step: int) -> dict[str, float]:
        split, (_, splits) = "val" if "val" in self.splits else "test", self.phase(step - 1)
        return self.evaluator(variables, splits[split]).numbers(split) if split in splits else {}

    def score(self, variables: Variables, split: str) -> Scores:
        """The scores of "val" or "test"."""
        return self.evaluator(variables, self.splits[split])

    def contents(self) -> dict[str, Content]:
        return contents(self.config)

    def describe(self, workdir: Path) -> None:
        write_labels(workdir, self.names, self.train.image_size)

    def finish(self, variables: Variables, workdir: Path) -> dict[str, Any]:
        results: dict[str, Any] = {"dataset": self.config.dataset, "train_images": len(self.train.labels)}
        for split in self.splits:
            scores = self.score(variables, split)
            results |= scores.numbers(split) | {f"{split}_images": scores.images}
            if jax.process_index() == 0:
                save_scores(scores, self.names, workdir, split)
        if jax.process_index() == 0:
            plots.curves(workdir / "metrics.jsonl", workdir / "curves.png")
        return results


class Classifier:
    """The trained function from pictures to logits, with the pre-processing that belongs to it."""

    def __init__(self, config: ConfigDict, names: list[str], image_size: int):
        self.model = registry.create(config.model, len(names), image_size, config.dtype)
        self.names, self.image_size = names, image_size
        self.normalise = standard.normaliser(config.normalise)

    def logits(self, variables: Variables, images: jax.Array) -> jax.Array:
        """uint8 images [b, h, w, 3] -> [b, classes]; ``variables`` is ``TrainState.variables``."""
        pixels = self.normalise(images.astype(jnp.float32) / 255)
        return self.model.apply({"params": variables.params, **variables.model_state}, pixels, train=False)

    @classmethod
    def from_workdir(cls, workdir: Path) -> "Classifier":
        """What a run's config.json and labels.json describe."""
        labels = read_labels(workdir)
        return cls(read_config(workdir), labels["names"], labels["image_size"])


def load_splits(config: ConfigDict) -> tuple[datasets.Dataset, dict[str, datasets.Dataset]]:
    """(training set, {"val", "test"} as far as the config wants them).

    The validation split is cut from the fraction of the training set that is used at all: no label beyond it is seen.
    A folder with val/ beside train/ and test/ brings its own, unless ``config.validation`` asks for another.

    Raises:
      UserError: as ``datasets.load`` does; a set has fewer than two classes or images without a label.
    """
    # What to train on: all of the set, or a part of its labels, less the validation split.
    held_out, levels = {}, Levels(config.white)
    load = functools.partial(datasets.load, config.dataset, data_dir=config.data_dir or None, levels=levels)
    train = load("train", config.image_size or None)
    if len(train.names) < 2:
        has = f"only one class, {train.names[0]}" if train.names else "no class folders, and so no labels"
        raise UserError(f"config.dataset={config.dataset} has {has}; at least 2 classes are needed")
    if config.fraction != 1:
        train = train.subset(splits.subset(train.labels, config.fraction, config.seed))
    if config.validation:
        kept, cut = datasets.split_validation(train.labels, config.validation, config.seed)
        train, held_out["val"] = train.subset(kept), train.subset(cut)
    elif datasets.has_validation(config.dataset):
        held_out["val"] = load("val", train.image_size)
    # The test split has the training images' size, even where that is the set's own.
    if config.test:
        held_out["test"] = load("test", train.image_size)
    levels.warn_if_narrow(config.dataset)
    for name, split in {"train": train, **held_out}.items():
        if split.labels.min() < 0:
            other = "; set config.test=False" if name == "test" else ""
            raise UserError(f"the {name} split of {config.dataset} has images without a label{other}")
    return train, held_out


def contents(config: ConfigDict) -> dict[str, Content]:
    """What the splits that `load_splits` reads hold, if they lie in a folder; see `Task.contents`."""
    used = {"val": not config.validation and datasets.has_validation(config.dataset), "test": config.test}
    found = datasets.content(config.dataset, ["train", *(name for name in used if used[name])])
    return {"dataset": found} if found else {}


def resized(config: ConfigDict, image_size: int) -> ConfigDict:
    """The config for an earlier phase of a run, with images of another size (progressive resizing; Howard, 2018)."""
    if config.model.name == "vit":
        raise UserError("config.earlier_sizes must be empty: a ViT's position embedding is of one size of images")
    other = config.copy_and_resolve_references()
    other.image_size = image_size
    return other


def write_labels(workdir: Path, names: list[str], image_size: int) -> None:
    """Writes labels.json, the mapping from labels to classes; :func:`read_labels` reads it."""
    files.write_json(workdir / "labels.json", {"names": names, "image_size": image_size})


def read_config(workdir: Path, defaults: Mapping[str, Callable[[str], ConfigDict]] | None = None) -> ConfigDict:
    """A run's config.json; options younger than the run have their defaults.

    Args:
      defaults: the tasks that it may be of, each with its ``default_config``; classification where there are none.

    Raises:
      UserError: it is missing or damaged, of another task or of a version with other options.
    """
    path, defaults = workdir / "config.json", defaults or {"classify": default_config}
    saved = configs.load(path)
    if (task := saved.get("task")) not in defaults:
        raise UserError(f"{workdir} is no workdir of a classification run: its task is {task}")
    name = saved.get("model", {}).get("name") if isinstance(saved.get("model"), ConfigDict) else None
    if not isinstance(name, str):
        raise UserError(f"{path} names no model (model.name)")
    return configs.with_defaults(saved, defaults[task](name), path)


def read_labels(workdir: Path) -> dict[str, Any]:
    """A run's labels.json: ``names`` of the classes in order, ``image_size`` in pixels."""
    path, advice = workdir / "labels.json", "the command that trained the run writes it again"
    try:
        labels = json_file.read(path, {"names": [str], "image_size": int}, advice)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{workdir} is no workdir of a classification run: it has no labels.json") from None
    if len(set(labels["names"])) < max(2, len(labels["names"])) or not 1 <= labels["image_size"] <= 2**15:
        raise UserError(f"{path} is damaged (it needs two different names or more, and a size of images); {advice}")
    return labels


def save_scores(scores: Scores, names: list[str], folder: Path, split: str) -> None:
    """Writes ``{split}_classes.json`` (class -> accuracy, best first; null: no image) and ``{split}_confusion.png``."""
    pairs = zip(names, scores.per_class().tolist(), strict=True)
    classes = {name: None if math.isnan(accuracy) else accuracy for name, accuracy in pairs}
    classes = dict(sorted(classes.items(), key=lambda pair: -1 if pair[1] is None else pair[1], reverse=True))
    files.write_json(folder / f"{split}_classes.json", classes)
    plots.confusion_matrix(scores.confusion, names, folder / f"{split}_confusion.png")
