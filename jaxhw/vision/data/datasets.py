"""Image classification sets: `load("tfds:cifar100", "train")` gives uint8 images and labels, in memory if they fit.

Spec            | what
----------------|---------------------------------------------------------------------------------------------
`tfds:NAME`     | a TensorFlow Datasets set with an image and a label, read without TensorFlow; cifar10, cifar100 and
                | stl10 are downloaded and prepared at first use
`folder:DIR`    | class folders of images, DIR/CLASS/*.png, or DIR/train and DIR/test (or val) of class folders
`domains:DIR`   | class folders within domain folders, DIR/DOMAIN/CLASS/*.png; `domains:DIR:photo,sketch` for some
`digits`        | scikit-learn's 1797 digits of 8 x 8 pixels; needs no network
`blank:N:C`     | N images of C classes that hold nothing and take no memory
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from jaxhw import contents
from jaxhw.contents import Content
from jaxhw.decoding import CAN_BE_WHITE, WHITE, Levels
from jaxhw.errors import UserError
from jaxhw.options import Rule, at_least, defaults, option, read, require
from jaxhw.vision.data.blank import PUBLISHED, BlankImages, load_blank
from jaxhw.vision.data.folder import (
    common_size,
    find_domains,
    find_images,
    load_domains,
    load_folder,
    validation_folder,
)
from jaxhw.vision.data.images import LazyImages, fit
from jaxhw.vision.data.splits import split_validation

__all__ = ["Dataset", "Options", "describe", "load", "split_validation"]


@dataclass(frozen=True)
class Options:
    """The keys of a config that say which images a run reads, and how. Tasks add keys of their own in a subclass."""

    dataset: str = option("digits", "tfds:NAME, folder:DIR, domains:DIR or digits")
    fraction: float = option(
        1.0,
        "share of the training set that is used at all, drawn by class and seed",
        Rule("above 0 and at most 1", lambda value: 0 < value <= 1),
    )
    data_dir: str = option("", "where prepared tfds sets lie; empty is $TFDS_DATA_DIR or ~/tensorflow_datasets")
    image_size: int = option(0, "pixels; 0 is the set's own", at_least(0))
    white: int = option(WHITE, "the value that is white in 16-bit grey pictures of folder: and domains:", CAN_BE_WHITE)
    normalise: str = option("none", "channel statistics, one of jaxhw.vision.augment.standard.STATISTICS")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """This class's options among all keys of a config.

        Raises:
            UserError: one is of another kind or range.
        """
        return read(cls, {name: config[name] for name in defaults(cls)}, "config")


@dataclass(frozen=True)
class Dataset:
    """n labelled square images.

    Attributes:
        labels: int32 [n]; -1 where unknown.
        names: the classes' names, by label.
        image_size: pixels a side.
        images: uint8 [m, h, w, 3] in memory, or the same decoded or made up on demand; read it through `take`.
        rows: int64 [n], which of the m images belong to this set.
    """

    labels: np.ndarray
    names: list[str]
    image_size: int
    images: np.ndarray | LazyImages | BlankImages
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Images by integer indices [k]: uint8 [k, h, w, 3]. UserError if a file turns out to be unreadable."""
        return self.images[self.rows[np.asarray(indices)]]

    def subset(self, indices: np.ndarray) -> Dataset:
        """The set of the images at integer indices [k], in that order; the pixels are shared, not copied."""
        indices = np.asarray(indices)
        return replace(self, labels=self.labels[indices], rows=self.rows[indices])


def load(
    spec: str,
    split: str,
    image_size: int | None = None,
    data_dir: str | None = None,
    memory_limit: int | None = None,
    levels: Levels | None = None,
) -> Dataset:
    """Loads one split of an image classification set.

    Args:
        spec: `tfds:NAME`, `folder:DIR`, `domains:DIR` or `digits`.
        split: "train" or "test". A `tfds:` set without a test split gives its validation split as "test", and takes
            the names of its other splits too ("unlabelled"). `digits`, `domains:` and a `folder:` without train/ and
            test/ have a fifth of each class (of each domain) cut for testing, always the same one (seed 0); of these
            "all" is both parts. A `folder:` with val/ beside train/ and test/ has that as "val".
        image_size: pixels a side: the shorter side is resized to it, the centre cropped. None keeps the images' own
            size, which must then be one square for all. Give the test split the train split's.
        data_dir: where `tfds:` sets lie; $TFDS_DATA_DIR or ~/tensorflow_datasets when None.
        memory_limit: bytes of pixels above which images stay on disk and are decoded at each use; a quarter of the
            available memory when None.
        levels: how 16-bit grey pictures of folders become 8 bits; their upper 8 bits when None.

    Raises:
        UserError: naming what is missing, unreadable or undecided (the image size), and what to do.
    """
    if image_size is not None:
        require("config.image_size", image_size, at_least(1), kind=int)
    # Which kind of set it is decides who reads it; digits alone has no place (`where`).
    kind, _, where = spec.partition(":")
    if kind == "tfds" and where:
        from jaxhw.vision.data import catalogue  # imports TFDS, which takes half a second

        images, labels, names = catalogue.load_tfds(where, split, image_size, data_dir, memory_limit)
    elif kind in KINDS and bool(where) == (kind != "digits"):
        if split not in ("train", "test", "all") and not (split == "val" and has_validation(spec)):
            raise UserError(f"{spec} has the splits train and test, not {split}")
        images, labels, names = KINDS[kind](where, split, image_size, memory_limit, levels or Levels())
    else:
        raise UserError(
            f'unknown dataset "{spec}": use tfds:NAME (such as tfds:cifar100), folder:DIR, domains:DIR or digits'
        )
    return Dataset(labels, names, images.shape[1], images, np.arange(len(labels)))


def has_validation(spec: str) -> bool:
    """Whether a set has a validation split of its own: a folder with val/ beside train/ and test/."""
    kind, _, where = spec.partition(":")
    return kind == "folder" and validation_folder(where) is not None


def place(spec: str) -> tuple[str, Path] | None:
    """(how a folder is read, the folder) of a set that lies in one: ("domains:photo", DIR), say; else None."""
    kind, _, where = spec.partition(":")
    if kind not in FINDERS:
        return None
    folder, _, chosen = where.partition(":") if kind == "domains" else (where, "", "")
    return f"{kind}:{chosen}" if chosen else kind, Path(folder).expanduser()


def content(spec: str, splits: Iterable[str]) -> Content | None:
    """What some splits of a set hold that lies in a folder, else None.

    Raises:
        UserError: as `load`.
    """
    if (found := place(spec)) is None:
        return None
    kind, _, where = spec.partition(":")
    listed = [FINDERS[kind](where, split) for split in splits]
    images = [path for files in listed for path in files.paths]
    return contents.of(*found, images, listed[0].names)


def describe(spec: str, image_size: int | None = None, data_dir: str | None = None) -> tuple[list[str], int]:
    """(class names, pixels a side) of a set, without reading its images; a `tfds:` set need not be prepared.

    Raises:
        UserError: as `load`.
    """
    kind, _, where = spec.partition(":")
    if kind == "tfds" and where:
        from jaxhw.vision.data import catalogue

        return catalogue.describe(where, image_size, data_dir)
    if kind in FINDERS and where:
        files = FINDERS[kind](where, "train")
        return files.names, image_size or common_size(files.paths)
    loaded = load(spec, "train", image_size)
    return loaded.names, loaded.image_size


def count(spec: str, data_dir: str | None = None) -> int | None:
    """The training images of a set that is there or whose size is published; None of others, and of those without any.

    Raises:
        UserError: as `load`.
    """
    kind, _, where = spec.partition(":")
    if kind == "tfds":
        from jaxhw.vision.data import catalogue

        return catalogue.count(where, data_dir) or PUBLISHED.get(where)
    if kind in FINDERS:
        return len(FINDERS[kind](where, "train").paths)
    return len(load(spec, "train")) if kind == "digits" else None


def load_digits(
    where: str, split: str, image_size: int | None, memory_limit: int | None, levels: Levels
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """scikit-learn's digits: grey levels 0..16 spread over 0..255, three equal channels."""
    from sklearn import datasets as sklearn_datasets  # slow to import

    digits = sklearn_datasets.load_digits()
    kept = np.arange(len(digits.target))
    if split != "all":
        kept = split_validation(digits.target, 0.2, seed=0)[0 if split == "train" else 1]
    grey = np.round(digits.images[kept] * (255 / 16)).astype(np.uint8)
    images = np.stack([fit(Image.fromarray(image), image_size or 8) for image in grey])
    return images, digits.target[kept].astype(np.int32), [str(name) for name in digits.target_names]


# Where the name of a set begins with one of these, (where, split, image size, memory limit,
# levels of 16-bit grey) -> (images, labels, names).
KINDS = {"folder": load_folder, "domains": load_domains, "digits": load_digits, "blank": load_blank}
FINDERS = {"folder": find_images, "domains": find_domains}  # what they find without decoding it
