"""Scores a run's newest checkpoint on exactly every image of a split.

jaxhw eval --workdir=runs/vit
jaxhw eval --workdir=runs/vit --split=val
jaxhw eval --workdir=runs/vit --dataset=folder:pictures --out=elsewhere
"""

import argparse

from jaxhw import files
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.main import set_up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir, --split, --dataset, --out."""
    other = "another data set with the same classes, cut as for training: of a folder without test/, a fifth is scored"
    parser.add_argument("--workdir", type=files.path, required=True, help="the run")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="which images (default: test)")
    parser.add_argument("--dataset", default="", help=other)
    parser.add_argument("--out", type=files.path, help="where the confusion matrix goes (default: the workdir)")


def run(args: argparse.Namespace) -> None:
    """Prints the numbers; writes the confusion matrix and the accuracy of each class."""
    if args.dataset and not args.out:
        raise UserError("--dataset needs --out=DIR: the workdir keeps the scores of the run's own data set")
    set_up()
    from jaxhw.checkpoint import restore_variables
    from jaxhw.vision.evaluation.scores import Evaluator
    from jaxhw.vision.tasks.classify import Classifier, load_splits, read_config, read_labels, save_scores

    config, labels = read_config(args.workdir), read_labels(args.workdir)
    mesh, names = meshes.make_mesh(), labels["names"]
    with config.unlocked():
        config.dataset = args.dataset or config.dataset
        config.image_size = labels["image_size"]
        config.test = args.split == "test"
    train, splits = load_splits(config)
    if train.names != names:
        raise UserError(f"{config.dataset} has other classes than the run ({len(train.names)} against {len(names)})")
    if args.split not in splits:
        raise UserError(f"{args.workdir} held out no validation split (its config.validation is 0)")
    out = args.out or args.workdir
    files.make_folder(out, "--out")
    size = config.batch_size - config.batch_size % -mesh.size  # the run may have had fewer devices
    score = Evaluator(Classifier.from_workdir(args.workdir).logits, len(names), size, mesh)
    scores = score(restore_variables(args.workdir, meshes.replicated(mesh)), splits[args.split])
    save_scores(scores, names, out, args.split)
    for name, value in scores.numbers(args.split).items():
        print(f"{name:16} {value:.4f}")
    print(f"{args.split}_images{'':{10 - len(args.split)}}{scores.images}")
    print(f"written: {out / f'{args.split}_confusion.png'}, {out / f'{args.split}_classes.json'}")
