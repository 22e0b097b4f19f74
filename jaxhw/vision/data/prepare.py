"""Downloads and prepares CIFAR-10, CIFAR-100 and STL-10 as TensorFlow Datasets would, but without TensorFlow.

TFDS supplies the URLs, checksums, downloads, features and writers. Its builders read the archives through tf.io; the
builders here read them with numpy and hand TFDS images that are PNG files already, because it would encode arrays with
TensorFlow. The result is what TFDS itself prepares: any program that uses TFDS can read it.
"""

import contextlib
import io
import itertools
import os
import shutil
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import requests
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import downloader
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.datasets.stl10 import stl10_dataset_builder as stl10
from tensorflow_datasets.image_classification.cifar import Cifar10 as TfdsCifar10
from tensorflow_datasets.image_classification.cifar import Cifar100 as TfdsCifar100

from jaxhw.errors import UserError

TIMEOUT = (10, 60)  # seconds to connect, and between two packets
Records = Iterator[tuple[int, dict[str, Any]]]  # TFDS's (key, features) of each example


def png(image: np.ndarray) -> io.BytesIO:
    """Encodes uint8 [h, w, 3] as a PNG file, which TFDS stores as it is."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    file.seek(0)
    return file


class Unpacked:
    """Stands in for TFDS's download manager, whose extraction needs TensorFlow."""

    def __init__(self, downloads: tfds.download.DownloadManager, folder: Path):
        self._downloads, self._folder = downloads, folder

    def download_and_extract(self, url: str) -> Path:
        """Unpacks the archive at a URL, downloaded if need be; returns the folder."""
        archive = self._downloads.download(url)
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(self._folder, filter="data")
        except (tarfile.TarError, zlib.error, EOFError) as error:  # it was sound when downloaded
            os.remove(archive)
            raise UserError(f"{archive} was damaged ({error}) and is removed now: run again") from error
        return self._folder


class Cifar:
    """What CIFAR-10's and CIFAR-100's builders have in common; mixed in before TFDS's own."""

    unpack_to: Path  # set by `prepare`

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Records]:
        return super()._split_generators(Unpacked(dl_manager, self.unpack_to))

    def _generate_examples(self, split_prefix: str, filepaths: list[str]) -> Records:
        keys = self._cifar_info.label_keys
        rows = itertools.chain.from_iterable(read_cifar(path, len(keys)) for path in filepaths)
        # Ids and keys are TFDS's, and so is the order that they shuffle to.
        for index, (labels, image) in enumerate(rows):
            record = {"id": f"{split_prefix}{index:05d}", "image": png(image)}
            yield index, record | dict(zip(keys, labels, strict=True))


def read_cifar(path: str, num_labels: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yields (labels, image uint8 [32, 32, 3]) from rows of label bytes and 3 planes of 32 x 32 pixels."""
    rows = np.fromfile(path, np.uint8).reshape(-1, num_labels + 3 * 32 * 32)
    images = rows[:, num_labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    for labels, image in zip(rows[:, :num_labels].tolist(), images, strict=True):
        yield labels, np.ascontiguousarray(image)


class Cifar10(Cifar, TfdsCifar10, skip_registration=True):
    name = "cifar10"
    url_infos = TfdsCifar10.url_infos


class Cifar100(Cifar, TfdsCifar100, skip_registration=True):
    name = "cifar100"
    url_infos = TfdsCifar100.url_infos


class Stl10(tfds.builder_cls("stl10"), skip_registration=True):
    name = "stl10"
    url_infos = tfds.builder_cls("stl10").url_infos
    unpack_to: Path  # set by `prepare`

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Records]:
        folder = Unpacked(dl_manager, self.unpack_to).download_and_extract(stl10.URL) / "stl10_binary"
        self.info.features["label"].names = (folder / "class_names.txt").read_text().split()
        splits = {"train": "train", "test": "test", "unlabelled": "unlabeled"}
        return {split: self._generate_examples(folder, stem) for split, stem in splits.items()}

    def _generate_examples(self, folder: Path, stem: str) -> Records:
        """Planes of 96 x 96 pixels, column by column; labels 1..10, none (-1) in the unlabelled split."""
        images = np.memmap(folder / f"{stem}_X.bin", np.uint8).reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        path = folder / f"{stem}_y.bin"
        labels = np.fromfile(path, np.uint8).astype(int) - 1 if path.exists() else np.full(len(images), -1)
        for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            yield index, {"image": png(np.ascontiguousarray(image)), "label": label}


BUILDERS = {"cifar10": Cifar10, "cifar100": Cifar100, "stl10": Stl10}


def prepare(name: str, data_dir: str) -> None:
    """Downloads the set `name` (a key of BUILDERS) and prepares it under `data_dir`; TFDS shows the progress.

    The set appears in one rename when it is complete: a run that is cut off leaves nothing that could be taken for it.

    Raises:
        UserError: no connection, a server's error, a file that differs from the published one, a disk that is full or
            read-only; each with what to do.
    """
    # Archives stay in downloads/, what is unpacked from them goes when the set is complete.
    downloads = Path(data_dir) / "downloads"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=downloads, prefix=".unpacked-") as folder:
            builder = BUILDERS[name](data_dir=data_dir)
            builder.unpack_to = Path(folder)
            _download_and_prepare(builder, downloads / name)
    except (requests.RequestException, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise UserError(_download_advice(name, downloads / "manual", error)) from error
    except OSError as error:
        raise UserError(f"cannot prepare tfds:{name} in {data_dir}: {error}") from error


def _download_and_prepare(builder: tfds.core.DatasetBuilder, downloads: Path) -> None:
    """TFDS's own preparation, with fewer retries, a timeout, and threads that end with it."""
    config = tfds.download.DownloadConfig(try_download_gcs=False, force_checksums_validation=True)
    before = set(downloads.glob("*.tmp.*"))
    # Downloads read blocks until they are told to stop.
    stopped, open_url = threading.Event(), downloader._open_url

    @contextlib.contextmanager
    def open_stoppable(url: str, **options: Any) -> Iterator[tuple[Any, Iterator[bytes]]]:
        with open_url(url, timeout=TIMEOUT, **options) as (response, blocks):
            yield response, itertools.takewhile(lambda _: not stopped.is_set(), blocks)

    try:
        # TFDS tries ten times and waits for ever: without a network that is minutes, behind some firewalls hours. Its
        # download thread goes on after Ctrl-C, and Python waits for it.
        with mock.patch.multiple(downloader, MAX_RETRIES=3, _open_url=open_stoppable):
            builder.download_and_prepare(download_config=config, file_format="array_record")
    finally:
        stopped.set()
        for folder in set(downloads.glob("*.tmp.*")) - before:  # TFDS leaves what it could not finish
            shutil.rmtree(folder, ignore_errors=True)


def _download_advice(name: str, manual: Path, error: Exception) -> str:
    """What to do about a download that failed: check the network, or put the file in its folder by hand."""
    [(url, info)] = BUILDERS[name].url_infos.items()
    file = manual / info.filename
    if not isinstance(error, NonMatchingChecksumError):
        return f"cannot download {url} ({error}): check the network and run again, or put the file at {file} by hand"
    if file.exists():
        return f"{file} is not the published {url} (another size or checksum): replace it or remove it"
    return f"what came from {url} is not the published file (another size or checksum): run again, or put it at {file}"
