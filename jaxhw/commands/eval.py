"""Scores a run's newest checkpoint on exactly every image of a split; only that split is read.

jaxhw eval --workdir=runs/vit
jaxhw eval --workdir=runs/vit --split=val
jaxhw eval --workdir=runs/vit --dataset=folder:pictures --out=elsewhere
"""

import argparse
import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from jaxhw import files
from jaxhw import mesh as meshes
from jaxhw.errors import UserError, warn
from jaxhw.main import set_up

if TYPE_CHECKING:  # its imports take seconds, which --help does not need
    from jaxhw.vision.data.datasets import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir, --split, --dataset, --out."""
    which = "which images; all: of a data set that is not cut (default: test)"
    other = "another data set with the same classes, cut as for training: of a folder without test/, a fifth is scored"
    parser.add_argument("--workdir", type=files.path, required=True, help="the run")
    parser.add_argument("--split", choices=("test", "val", "all"), default="test", help=which)
    parser.add_argument("--dataset", default="", help=other)
    parser.add_argument("--out", type=files.path, help="where the confusion matrix goes (default: the workdir)")


def run(args: argparse.Namespace) -> None:
    """Prints the numbers; writes the confusion matrix and the accuracy of each class."""
    if args.dataset and not args.out:
        raise UserError("--dataset needs --out=DIR: the workdir keeps the scores of the run's own data set")
    set_up()
    from jaxhw.checkpoint import restore_variables
    from jaxhw.vision.evaluation.scores import Evaluator
    from jaxhw.vision.tasks.classify import save_scores
    from jaxhw.vision.tasks.trained import open_run

    config, classifier = open_run(args.workdir)
    with config.unlocked():
        config.dataset = args.dataset or config.dataset
        config.image_size = classifier.image_size
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


def images_of(config: ConfigDict, split: str) -> "Dataset":
    """The images of a split, and no others: a validation split alone is cut from the training set.

    Raises:
      UserError: the run held out no validation split, or the set cannot be read.
    """
    from jaxhw.vision.data import datasets
    from jaxhw.vision.tasks.classify import load_splits

    if split != "val" or datasets.has_validation(config.dataset):
        return datasets.load(config.dataset, split, config.image_size, config.data_dir or None)
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
