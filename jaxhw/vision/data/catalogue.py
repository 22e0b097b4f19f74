"""Sets prepared by TensorFlow Datasets, read without TensorFlow.

TFDS names a set's features and finds its records; the records are parsed and the images decoded here, because TFDS
takes three times as long. The decoded pixels of a set that is kept in memory are cached beside its records.
"""

import io
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from PIL import Image
from tensorflow_datasets.core import decode
from tensorflow_datasets.proto import tf_example_pb2

from jaxhw import streams
from jaxhw.errors import UserError
from jaxhw.vision.data.images import LazyImages, fit, fit_all, fits

CHUNK = 1024  # records in one read: array_record reads a thousand at once ten times as fast as one by one


def load_tfds(
    name: str, split: str, image_size: int | None, data_dir: str | None, memory_limit: int | None
) -> tuple[np.ndarray | LazyImages, np.ndarray, list[str]]:
    """Loads one split of a TFDS set; see `jaxhw.vision.data.datasets.load`.

    Args:
        name: as TFDS writes it: `cifar100`, `cifar100:3.0.2`, `imagenette/160px-v2`.

    Returns:
        (images [n, h, w, 3], labels int32 [n], class names).
    """
    # What the set's description says of the split and its features.
    builder = find_or_prepare(name, root_of(data_dir))
    split = existing_split(builder, split)
    image_key, label_key = supervised_keys(builder)
    native = square_size(builder.info.features[image_key].shape)
    size = chosen_size(builder, image_size)
    # Images of one size no larger than wanted are cached as they are, so that runs of any size share the cache. Others
    # are decoded straight to the size wanted: their pixels, all of them, may not fit.
    in_memory = fits(builder.info.splits[split].num_examples * size * size * 3, memory_limit)
    if in_memory and native and native <= size:
        images, labels = read_pixels(builder, split, image_key, label_key, native)
        images = images if size == native else fit_all(images, size)
    else:
        images, labels = read_records(builder, split, image_key, label_key, size, in_memory)
    return images, labels, list(builder.info.features[label_key].names)


def describe(name: str, image_size: int | None, data_dir: str | None) -> tuple[list[str], int]:
    """(class names, pixels a side) from the set's description, which TFDS carries for sets not prepared yet."""
    root = root_of(data_dir)
    try:
        builder = find(name, root) or tfds.builder(name, data_dir=root)
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError):  # no such set, version, configuration
        raise UserError(f"tfds:{name} is neither prepared in {root} nor known to TensorFlow Datasets") from None
    return list(builder.info.features[supervised_keys(builder)[1]].names), chosen_size(builder, image_size)


def count(name: str, data_dir: str | None) -> int | None:
    """The training images of a set that is prepared, else None."""
    builder = find(name, root_of(data_dir))
    return builder and builder.info.splits["train"].num_examples


def root_of(data_dir: str | None) -> str:
    """The folder that prepared sets lie in: `data_dir`, $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    return os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def chosen_size(builder: tfds.core.DatasetBuilder, image_size: int | None) -> int:
    """`image_size`, or the side that all images of the set share."""
    size = image_size or square_size(builder.info.features[supervised_keys(builder)[0]].shape)
    if size is None:
        raise UserError(
            f"tfds:{builder.name} has images of varying sizes or that are not square: set config.image_size"
        )
    return size


def find_or_prepare(name: str, root: str) -> tfds.core.DatasetBuilder:
    """Reads the description of the set `name` prepared under `root`, without any network; prepares it if we can."""
    # Sets that are not there are downloaded, if this package knows how.
    builder = find(name, root)
    if builder is None:
        from jaxhw.vision.data import prepare

        if name not in prepare.BUILDERS:
            raise UserError(
                f"tfds:{name} is not prepared in {root}: where TensorFlow is installed, run "
                f"`tfds build {name} --file_format=array_record --data_dir={root}`"
            )
        try:
            prepare.prepare(name, root)
        except UserError:
            if find(name, root) is None:  # otherwise another process was preparing it too, and was faster
                raise
        builder = find(name, root)
    # TFDS's other file formats take TensorFlow to read.
    if "array_record" not in {fmt.value for fmt in builder.info.available_file_formats()}:
        raise UserError(
            f"{builder.data_dir} is prepared as {builder.info.file_format.value}, which only TensorFlow reads: where "
            f"that is installed, run `tfds convert_format --dataset_version_dir={builder.data_dir} "
            "--out_file_format=array_record`, or set TFDS_DATA_DIR to another folder"
        )
    return builder


def find(name: str, root: str) -> tfds.core.DatasetBuilder | None:
    """The set `name` prepared under `root`, or None; UserError for what TFDS cannot read as a name."""
    stem = re.split("[/:]", name)[0]
    if stem != stem.lower():
        raise UserError(f"tfds:{name} is no name: they are in lower case, as tfds:{stem.lower()}")
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=root)
    except tfds.core.DatasetNotFoundError:
        return None
    except ValueError:
        raise UserError(f"tfds:{name} is no name: use tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:VERSION") from None


def existing_split(builder: tfds.core.DatasetBuilder, split: str) -> str:
    """The split itself, or "validation" in place of a "test" that is not there."""
    splits = list(builder.info.splits)
    if split == "test" and split not in splits:
        split = "validation"
    if split not in splits:
        raise UserError(f"tfds:{builder.name} has no split {split}: it has {', '.join(splits)}")
    return split


def supervised_keys(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """The names of the image feature and of the label that belongs to it."""
    # Where the set itself does not name the pair, the first image and the first label.
    features = dict(builder.info.features.items())
    keys = builder.info.supervised_keys or (
        next((key for key, feature in features.items() if isinstance(feature, tfds.features.Image)), None),
        next((key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)), None),
    )
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    if len(keys) != 2 or not all(isinstance(features.get(k), kind) for k, kind in zip(keys, kinds, strict=True)):
        raise UserError(f"tfds:{builder.name} is no image classification set: its features are {', '.join(features)}")
    return keys


def square_size(shape: tuple[int | None, ...]) -> int | None:
    """The side of images of a feature's shape (h, w, channels), None unless they are all one square size."""
    return shape[0] if shape[0] == shape[1] else None


def read_pixels(
    builder: tfds.core.DatasetBuilder, split: str, image_key: str, label_key: str, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """A split's images of one size and labels, from the cache if they are there, else into it."""
    path = os.path.join(builder.data_dir, f"jaxhw-{split}.npz")
    arrays = read_cache(path, (builder.info.splits[split].num_examples, size, size, 3))
    if arrays is None:
        arrays = read_records(builder, split, image_key, label_key, size, in_memory=True)
        write_cache(path, *arrays)
    return arrays


def read_records(
    builder: tfds.core.DatasetBuilder, split: str, image_key: str, label_key: str, size: int, in_memory: bool
) -> tuple[np.ndarray | LazyImages, np.ndarray]:
    """Reads a split's images, decoded now or at each use, and its labels, int32 [n], which takes one pass anyway."""

    def pixels(features: Mapping[str, Any]) -> np.ndarray:
        try:
            return fit(Image.open(io.BytesIO(features[image_key].bytes_list.value[0])), size)
        except Exception as error:  # a damaged image makes PIL raise nearly anything
            raise UserError(f"{builder.data_dir} holds an image that cannot be read: {error}") from error

    try:
        source = builder.as_data_source(split, deserialize_method=decode.DeserializeMethod.RAW_BYTES)
        lazy = LazyImages(lambda i: pixels(parse(source[i])), len(source), size)
        images = np.empty(lazy.shape, np.uint8) if in_memory else lazy
        labels = np.empty(len(source), np.int32)
        # One pass in chunks, the images of each decoded by all threads at once.
        starts = range(0, len(source), CHUNK)
        for start in streams.bar(starts, f"reading {builder.name} {split}", len(starts), f"{CHUNK} records"):
            rows = np.arange(start, min(start + CHUNK, len(source)))
            records = [parse(record) for record in source.__getitems__(rows.tolist())]
            labels[rows] = [features[label_key].int64_list.value[0] for features in records]
            if in_memory:
                images[rows] = LazyImages(lambda i, records=records: pixels(records[i]), len(rows), size)[rows - start]
    except (OSError, RuntimeError, ValueError, DecodeError) as error:  # what array_record and protobuf raise
        raise UserError(f"cannot read {builder.data_dir} ({error}): remove that folder and prepare it again") from error
    return images, labels


def parse(record: bytes) -> Mapping[str, Any]:
    """The features by name of one record, a serialised tf.train.Example."""
    return tf_example_pb2.Example.FromString(record).features.feature


def read_cache(path: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """The images and labels that `write_cache` left, None where there is no sound cache of this shape."""
    try:
        with np.load(path) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return (images, labels) if images.shape == shape and len(labels) == len(images) else None


def write_cache(path: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Keeps decoded images for the next run, which then starts seconds sooner; without write access, does nothing."""
    try:
        with tempfile.TemporaryDirectory(dir=os.path.dirname(path), prefix=".jaxhw-") as folder:
            np.savez(os.path.join(folder, "cache.npz"), images=images, labels=labels)
            os.replace(os.path.join(folder, "cache.npz"), path)  # another run never sees half a file
    except OSError:
        pass
