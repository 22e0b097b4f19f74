"""Scores a run's newest checkpoint on exactly every image of a split; only that split is read.

jaxhw eval --workdir=runs/vit
jaxhw eval --workdir=runs/vit --split=val
jaxhw eval --workdir=runs/vit --dataset=folder:pictures --out=elsewhere
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from jaxhw import contents, files
from jaxhw import mesh as meshes
from jaxhw.decoding import CAN_BE_WHITE, Levels
from jaxhw.errors import UserError, warn
from jaxhw.main import set_up
from jaxhw.options import require

if TYPE_CHECKING:  # its imports take seconds, which --help does not need
    from jaxhw.vision.data.datasets import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir, --split, --dataset, --white, --out."""
    which = "which images; all: of a data set that is not cut (default: test)"
    other = (
        "where the run's data set lies now, if it was moved; or another one with the same classes, cut as for "
        "training: of a folder without test/, a fifth is scored"
    )
    parser.add_argument("--workdir", type=files.path, required=True, help="the run")
    parser.add_argument("--split", choices=("test", "val", "all"), default="test", help=which)
    parser.add_argument("--dataset", default="", help=other)
    parser.add_argument("--white", type=int, help="the value that is white in 16-bit grey (default: as in training)")
    parser.add_argument("--out", type=files.path, help="where the confusion matrix goes (default: the workdir)")


def run(args: argparse.Namespace) -> None:
    """Prints the numbers; writes the confusion matrix and the accuracy of each class."""
    set_up()
    from jaxhw.checkpoint import restore_variables
    from jaxhw.vision.evaluation.scores import Evaluator
    from jaxhw.vision.tasks.classify import save_scores
    from jaxhw.vision.tasks.trained import open_run

    config, classifier = open_run(args.workdir)
    with config.unlocked():
        config.dataset = args.dataset or config.dataset
        config.image_size = classifier.image_size
        config.white = white_of(args.white, config)
    _check_place(config, args)
    images = matched(images_of(config, args.split), classifier.names, config.dataset)
    out = args.out or args.workdir
    files.make_folder(out, "--out")
    mesh, names = meshes.make_mesh(), classifier.names
    size = config.batch_size - config.batch_size % -mesh.size  # the run may have had fewer devices
    score = Evaluator(classifier.logits, len(names), size, mesh)
    scores = score(restore_variables(args.workdir, meshes.replicated(mesh)), images)
    for name, value in scores.numbers(args.split).items():
        print(f"{name:16} {value:.4f}")
    print(f"{args.split}_images{'':{10 - len(args.split)}}{scores.images}")
    try:
        save_scores(scores, names, out, args.split)
    except OSError as error:  # a workdir that only its owner may write to: the numbers are printed all the same
        warn(f"nothing written to {out}: {error.strerror}; choose another folder with --out")
    else:
        print(f"written: {out / f'{args.split}_confusion.png'}, {out / f'{args.split}_classes.json'}")


def _check_place(config: ConfigDict, args: argparse.Namespace) -> None:
    """Refuses a data set that is not there any more, and another than the run's without a place for its scores."""
    from jaxhw.vision.data import datasets

    place = datasets.place(config.dataset)
    if place and not args.dataset and not place[1].is_dir():
        raise UserError(
            f"{config.dataset}, the run's data set, is not there: if it was moved, name its new place with --dataset="
        )
    if args.dataset and not args.out and not _is_own(config, args.workdir):
        raise UserError("--dataset needs --out=DIR: the workdir keeps the scores of the run's own data set")


def _is_own(config: ConfigDict, workdir: Path) -> bool:
    """Whether the data set that a config names is what the run began with, in whatever place."""
    from jaxhw.vision.tasks import classify

    began = contents.read(workdir)
    try:
        return bool(began) and classify.contents(config) == began
    except UserError:  # it has not even the splits of the run's
        return False


def white_of(given: int | None, config: ConfigDict) -> int:
    """What is white in pictures of 16 bits: what ``--white`` says, else as in the run's training."""
    if given is not None:
        require("--white", given, CAN_BE_WHITE, kind=int)
    return config.white if given is None else given


def images_of(config: ConfigDict, split: str) -> "Dataset":
    """The images of a split, and no others: a validation split alone is cut from the training set.

    Raises:
      UserError: the run held out no validation split, or the set cannot be read.
    """
    from jaxhw.vision.data import datasets
    from jaxhw.vision.tasks.classify import load_splits

    if split != "val" or datasets.has_validation(config.dataset):
        levels = Levels(config.white)
        images = datasets.load(config.dataset, split, config.image_size, config.data_dir or None, levels=levels)
        levels.warn_if_narrow(config.dataset, "--white")
        return images
    if not config.validation:
        raise UserError("the run held out no validation split (its config.validation is 0)")
    with config.unlocked():
        config.test = False
    return load_splits(config)[1]["val"]


def matched(images: "Dataset", names: list[str], spec: str) -> "Dataset":
    """The images under the run's labels; the set may lack classes of the run.

    Raises:
      UserError: the set has classes that the run does not know, or no labels.
    """
    odd = [name for name in images.names if name not in names]
    if odd or not images.names:
        what = f"classes that the run does not know: {', '.join(odd[:5])} ({len(odd)} in all)" if odd else "no labels"
        raise UserError(f"{spec} has {what}; the run's classes: {', '.join(names[:5])}, ... ({len(names)})")
    labels = np.array([names.index(name) for name in images.names], np.int32)[images.labels]
    return dataclasses.replace(images, labels=labels, names=names)
