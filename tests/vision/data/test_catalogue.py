"""Reading TFDS sets without TensorFlow: a small one written here, and CIFAR-100 where it is prepared."""

import io
import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxhw.errors import UserError
from jaxhw.vision.data import catalogue
from jaxhw.vision.data.datasets import describe, load


def encoded(image: np.ndarray, kind: str = "PNG") -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    file.seek(0)
    return file


def pictures(split: str, varying: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(len(split))
    return [rng.integers(0, 256, (16, 20 + i if varying else 16, 3), np.uint8) for i in range(12)]


class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """12 + 12 images of 16 x 16 in the splits train and validation; labels 0, 1, 2 in turn."""

    VERSION = tfds.core.Version("1.0.0")
    name, shape = "toy", (16, 16, 3)

    def _info(self):
        label = tfds.features.ClassLabel(names=["x", "y", "z"])
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=self.shape), "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in ("train", "validation")}

    def _generate_examples(self, split):
        for i, image in enumerate(pictures(split, varying=self.shape[1] is None)):
            yield i, {"image": encoded(image), "label": i % 3}


class Varying(Toy, skip_registration=True):
    name, shape = "varying", (None, None, 3)


class Captions(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")
    name = "captions"

    def _info(self):
        features = {"image": tfds.features.Image(shape=(16, 16, 3)), "caption": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"image": encoded(pictures("train", varying=False)[0]), "caption": "noise"}


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """A data folder with the small sets in it; from here on any use of the network fails."""
    for builder in (Toy, Varying, Captions):
        builder(data_dir=tmp_path).download_and_prepare(file_format="array_record")

    def refuse(*args):
        raise AssertionError("contacted the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path


def content(dataset):
    images = dataset.take(np.arange(len(dataset)))
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, dataset.labels, strict=True))


def test_reads_pixels_labels_and_names(data_dir):
    train = load("tfds:toy", "train", data_dir=str(data_dir))
    images = pictures("train", varying=False)
    assert content(train) == sorted((image.tobytes(), i % 3) for i, image in enumerate(images))
    assert train.names == ["x", "y", "z"] and train.labels.dtype == np.int32 and train.image_size == 16


def test_data_dir_comes_from_the_environment(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert len(load("tfds:toy:1.0.0", "train")) == 12


def test_validation_stands_in_for_a_missing_test_split(data_dir):
    test = load("tfds:toy", "test", data_dir=str(data_dir))
    assert content(test) == content(load("tfds:toy", "validation", data_dir=str(data_dir)))
    with pytest.raises(UserError, match="no split unlabelled: it has train, validation"):
        load("tfds:toy", "unlabelled", data_dir=str(data_dir))


def test_varying_sizes_need_an_image_size(data_dir):
    with pytest.raises(UserError, match=r"varying sizes .* set config.image_size"):
        load("tfds:varying", "train", data_dir=str(data_dir))
    dataset = load("tfds:varying", "train", image_size=16, data_dir=str(data_dir))
    cropped = [image[:, (w := image.shape[1] - 16) // 2 : w // 2 + 16] for image in pictures("train", varying=True)]
    even = {c.tobytes() for c, i in zip(cropped, pictures("train", varying=True), strict=True) if i.shape[1] % 2 == 0}
    assert even <= {pixels for pixels, _ in content(dataset)}


@pytest.mark.parametrize("size", [None, 24, 8])
def test_on_disk_reads_the_same(data_dir, size):
    memory = load("tfds:toy", "train", size, data_dir=str(data_dir))
    disk = load("tfds:toy", "train", size, data_dir=str(data_dir), memory_limit=0)
    assert memory.images.shape == (12, size or 16, size or 16, 3)
    assert not isinstance(disk.images, np.ndarray)
    np.testing.assert_array_equal(disk.take([11, 0, 5]), memory.take([11, 0, 5]))
    np.testing.assert_array_equal(disk.labels, memory.labels)


def test_the_cache_is_used_and_a_broken_one_replaced(data_dir, monkeypatch):
    first = content(load("tfds:toy", "train", data_dir=str(data_dir)))
    cache = data_dir / "toy" / "1.0.0" / "jaxhw-train.npz"
    assert [path.name for path in cache.parent.iterdir() if path.name.startswith((".", "jaxhw"))] == [cache.name]

    cache.write_bytes(cache.read_bytes()[:500])
    assert content(load("tfds:toy", "train", data_dir=str(data_dir))) == first
    monkeypatch.setattr(catalogue, "read_records", None)
    assert content(load("tfds:toy", "train", data_dir=str(data_dir))) == first
    assert load("tfds:toy", "train", 24, data_dir=str(data_dir)).image_size == 24


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    catalogue.write_cache(str(tmp_path / "missing" / "cache.npz"), np.zeros(1), np.zeros(1))
    assert not list(tmp_path.iterdir())


def test_sets_that_are_not_for_classification(data_dir):
    with pytest.raises(UserError, match=r"no image classification set: its features are .*caption"):
        load("tfds:captions", "train", data_dir=str(data_dir))


def test_a_set_that_is_not_prepared(data_dir):
    with pytest.raises(UserError, match="tfds build mnist --file_format=array_record"):
        load("tfds:mnist", "train", data_dir=str(data_dir))
    with pytest.raises(UserError, match="tfds build nonsense"):
        load("tfds:nonsense", "train", data_dir=str(data_dir))


@pytest.mark.parametrize(
    "name", ["no such", "toy-x", "../toy", "toy/a/b", "TOY", "Toy:1.0.0", "mnist:9.9.9", "mnist/x"]
)
@pytest.mark.parametrize("read", [load, describe])
def test_what_is_no_name(data_dir, name, read):
    with pytest.raises(UserError) as error:
        read(f"tfds:{name}", **({"split": "train"} if read is load else {}), data_dir=str(data_dir))
    assert str(error.value).startswith(f"tfds:{name} is ") and "\n" not in str(error.value)
    assert not name.startswith("T") or str(error.value).endswith("tfds:toy")


def test_a_set_that_only_tensorflow_reads(data_dir):
    path = data_dir / "toy" / "1.0.0" / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match="prepared as tfrecord"):
        load("tfds:toy", "train", data_dir=str(data_dir))


def test_damaged_records(data_dir):
    [records] = (data_dir / "toy" / "1.0.0").glob("toy-train*")
    records.write_bytes(records.read_bytes()[:100])
    with pytest.raises(UserError, match=r"cannot read .*toy/1.0.0") as error:
        load("tfds:toy", "train", data_dir=str(data_dir))
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def cifar100():
    root = os.path.expanduser(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    if catalogue.find("cifar100", root) is None:
        pytest.skip(f"tfds:cifar100 is not prepared in {root}")
    return {split: load("tfds:cifar100", split) for split in ("train", "test")}


def test_cifar100_counts(cifar100):
    for split, count in (("train", 500), ("test", 100)):
        np.testing.assert_array_equal(np.bincount(cifar100[split].labels), np.full(100, count))
        assert cifar100[split].images.shape == (100 * count, 32, 32, 3)
    assert cifar100["train"].names[:3] == ["apple", "aquarium_fish", "baby"]


def test_cifar100_pixels(cifar100, shared_data: Path):
    test = cifar100["test"]
    for name in ("apple", "streetcar"):  # sheets of 10 x 10 tiles
        sheet = np.asarray(Image.open(shared_data / "cifar100" / "test" / f"{name}.webp").convert("RGB"))
        tiles = sheet.reshape(10, 32, 10, 32, 3).swapaxes(1, 2).reshape(100, 32, 32, 3)
        ours = test.take(np.flatnonzero(test.labels == test.names.index(name)))
        assert sorted(image.tobytes() for image in ours) == sorted(tile.tobytes() for tile in tiles)
