"""The sets of a pre-training run: what it learns from, and what its features are measured on."""

import functools
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from jaxhw.decoding import Levels
from jaxhw.vision.data import datasets, splits
from jaxhw.vision.ssl.feature_monitor import IMAGES


@dataclass(frozen=True)
class Images:
    """The sets of a run.

    Attributes:
      train: what is learnt from.
      bank: among these neighbours are searched.
      queries: images held out, in random order; of an unlabelled set a few of those learnt from.
      test: the test split of the labelled set, or None; also where that split has no labels.
      labelled: whether bank and queries have labels, so that they give a kNN accuracy.
    """

    train: datasets.Dataset
    bank: datasets.Dataset
    queries: datasets.Dataset
    test: datasets.Dataset | None
    labelled: bool


def load(config: ConfigDict) -> Images:
    """Loads the sets that the config names.

    Raises:
      UserError: as ``datasets.load`` and the functions of ``splits`` do.
    """
    # What to learn from, and the set for kNN, which may be another one.
    levels = Levels(config.white)
    load_split = functools.partial(datasets.load, data_dir=config.data_dir or None, levels=levels)
    other = bool(config.knn_dataset) and (config.knn_dataset, "train") != (config.dataset, config.split)
    rng = np.random.default_rng(config.seed)
    train = load_split(config.dataset, config.split, config.image_size or None)
    size, spec = train.image_size, config.knn_dataset if other else config.dataset
    bank = load_split(spec, "train", size) if other else train
    # With labels, queries are held out: they are neither in the bank nor learnt from. They are shuffled because the
    # monitor takes the first of them for its numbers. Without labels, a few images serve.
    labelled = bool(config.validation) and bank.labels.min() >= 0
    if labelled:
        kept, cut = datasets.split_validation(bank.labels, config.validation, config.seed)
        bank, queries = bank.subset(kept), bank.subset(rng.permutation(cut))
        train = train if other else bank
    else:
        order = rng.permutation(len(bank))
        few = min(IMAGES, len(bank) // 2)
        bank, queries = bank.subset(order[few:]), bank.subset(order[:few])
    if config.fraction != 1:
        train = train.subset(splits.subset(train.labels, config.fraction, config.seed))
    # Test splits may lack labels, as ImageNet's does: then nothing is tested.
    test = load_split(spec, "test", size) if config.test and labelled else None
    levels.warn_if_narrow(f"{config.dataset} and {spec}" if other else config.dataset)
    scored = test is not None and test.labels.min() >= 0
    return Images(train, bank, queries, test if scored else None, labelled)
