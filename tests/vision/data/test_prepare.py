"""Preparing CIFAR and STL-10 from a local server that serves small archives of the published layout, well or badly."""

import hashlib
import io
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.utils import Size
from tensorflow_datasets.datasets.stl10 import stl10_dataset_builder as stl10

from jaxhw.errors import UserError
from jaxhw.vision.data import prepare
from jaxhw.vision.data.datasets import load


class Server(ThreadingHTTPServer):
    """Serves `body` for any path in one of several ways, and counts the requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.way, self.requests = b"", "good", 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        body, way = self.server.body, self.server.way
        if way == "missing":
            return self.send_error(404)
        half = body[: len(body) // 2]
        sent = {"truncated": body[:-100], "changed": body[:-1] + b"?", "interrupted": half, "stalled": half}
        sent = sent.get(way, body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if sent is half else len(sent)))
        self.end_headers()
        self.wfile.write(sent)
        if way == "stalled":
            time.sleep(1)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def publish(monkeypatch, server: Server, name: str, files: dict[str, bytes]) -> None:
    """Makes the server the publisher of the set `name`: its archive, address, size and checksum."""
    server.body = archive(files)
    file = f"{name}.tar.gz"
    info = UrlInfo(Size(len(server.body)), hashlib.sha256(server.body).hexdigest(), file)
    monkeypatch.setattr(prepare.BUILDERS[name], "url_infos", {server.url(file): info})
    if name == "stl10":
        monkeypatch.setattr(stl10, "URL", server.url(file))
    else:
        builder = prepare.BUILDERS[name]
        published = builder._cifar_info.fget(builder)  # reads nothing but the class's name
        monkeypatch.setattr(builder, "_cifar_info", published._replace(url=server.url(file)))


def cifar_rows(rng, n: int, classes: int, coarse: bool):
    """n images as planes [n, 3, 32, 32], their labels, and the file that holds both."""
    planes, labels = rng.integers(0, 256, (n, 3, 32, 32), np.uint8), np.arange(n) % classes
    heads = np.stack([labels // 5, labels] if coarse else [labels], 1).astype(np.uint8)
    return planes, labels, b"".join(h.tobytes() + p.tobytes() for h, p in zip(heads, planes, strict=True))


@pytest.fixture
def cifar100(monkeypatch, server):
    """Publishes 300 + 200 images; returns (planes, labels) by split."""
    rng = np.random.default_rng(0)
    *train, train_file = cifar_rows(rng, 300, 100, coarse=True)
    *test, test_file = cifar_rows(rng, 200, 100, coarse=True)
    files = {
        "cifar-100-binary/train.bin": train_file,
        "cifar-100-binary/test.bin": test_file,
        "cifar-100-binary/fine_label_names.txt": "".join(f"fine{i}\n" for i in range(100)).encode(),
        "cifar-100-binary/coarse_label_names.txt": "".join(f"coarse{i}\n" for i in range(20)).encode(),
    }
    publish(monkeypatch, server, "cifar100", files)
    return {"train": train, "test": test}


def by_pixels(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    """What order TFDS shuffles to is not the point: compare as sorted (pixels, label)."""
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def check_cifar100(data_dir: Path, published) -> None:
    for split, (planes, labels) in published.items():
        dataset = load("tfds:cifar100", split, data_dir=str(data_dir))
        images = dataset.take(np.arange(len(dataset)))
        assert by_pixels(images, dataset.labels) == by_pixels(planes.transpose(0, 2, 3, 1), labels)
        assert dataset.names == [f"fine{i}" for i in range(100)]


def leftovers(data_dir: Path) -> list[str]:
    """Anything in the data folder that is neither a prepared set nor a sound download."""
    return [str(p) for p in data_dir.rglob("*") if any(s in p.name for s in (".tmp.", "incomplete", ".unpacked"))]


def test_cifar100_pixel_for_pixel_then_without_network(cifar100, server, tmp_path):
    check_cifar100(tmp_path, cifar100)
    assert server.requests == 1 and not leftovers(tmp_path)
    server.way = "missing"
    check_cifar100(tmp_path, cifar100)
    assert server.requests == 1


def test_tfds_reads_what_we_prepare(cifar100, tmp_path):
    prepare.prepare("cifar100", str(tmp_path))
    source = tfds.data_source("cifar100", split="test", data_dir=tmp_path)
    planes, labels = cifar100["test"]
    for record in (source[0], source[199]):
        index = int(record["id"].decode().removeprefix("test_"))
        np.testing.assert_array_equal(record["image"], planes[index].transpose(1, 2, 0))
        assert (record["label"], record["coarse_label"]) == (labels[index], labels[index] // 5)


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("truncated", "not the published file"),
        ("changed", "not the published file"),
        ("interrupted", "cannot download"),
        ("stalled", "cannot download"),
        ("missing", "404"),
    ],
)
def test_a_bad_download_leaves_nothing_behind(cifar100, server, tmp_path, monkeypatch, way, says):
    monkeypatch.setattr(prepare, "TIMEOUT", (5, 0.5))
    server.way = way
    with pytest.raises(UserError, match=says) as error:
        load("tfds:cifar100", "train", data_dir=str(tmp_path))
    message = str(error.value)
    assert "\n" not in message and server.url("cifar100.tar.gz") in message
    assert str(tmp_path / "downloads" / "manual" / "cifar100.tar.gz") in message
    assert not leftovers(tmp_path)

    server.way = "good"
    check_cifar100(tmp_path, cifar100)


def test_no_network_then_a_file_put_by_hand(cifar100, server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=r"cannot download .* check the network") as error:
        load("tfds:cifar100", "train", data_dir=str(tmp_path))
    manual = tmp_path / "downloads" / "manual" / "cifar100.tar.gz"
    assert "\n" not in str(error.value) and str(manual) in str(error.value)

    manual.parent.mkdir(parents=True)
    manual.write_bytes(server.body[:-100])
    with pytest.raises(UserError, match=r"manual/cifar100.tar.gz is not the published"):
        load("tfds:cifar100", "train", data_dir=str(tmp_path))
    manual.write_bytes(server.body)
    check_cifar100(tmp_path, cifar100)


def test_a_download_damaged_on_disk_is_removed(cifar100, server, tmp_path):
    prepare.prepare("cifar100", str(tmp_path))
    [download] = [p for p in (tmp_path / "downloads" / "cifar100").iterdir() if p.suffix == ".gz"]
    download.write_bytes(server.body[:-100])
    for path in sorted((tmp_path / "cifar100").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match="was damaged"):
        load("tfds:cifar100", "train", data_dir=str(tmp_path))
    check_cifar100(tmp_path, cifar100)


def test_a_killed_run_is_not_taken_for_a_prepared_set(cifar100, server, tmp_path):
    # What a SIGKILL leaves: the builder's folder under its temporary name, without a description.
    half = tmp_path / "cifar100" / "incomplete.ABC123_3.0.2"
    half.mkdir(parents=True)
    (half / "cifar100-train.array_record-00000-of-00001").write_bytes(b"half")
    check_cifar100(tmp_path, cifar100)


def test_a_folder_that_cannot_be_written(cifar100, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot prepare tfds:cifar100"):
        load("tfds:cifar100", "train", data_dir=str(tmp_path / "file"))


def test_cifar10_reads_all_five_files(monkeypatch, server, tmp_path):
    rng = np.random.default_rng(1)
    rows = [cifar_rows(rng, 20, 10, coarse=False) for _ in range(6)]
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    files = {f"cifar-10-batches-bin/{name}": row[2] for name, row in zip(names, rows, strict=True)}
    files["cifar-10-batches-bin/batches.meta.txt"] = "".join(f"c{i}\n" for i in range(10)).encode() + b"\n"
    publish(monkeypatch, server, "cifar10", files)

    train = load("tfds:cifar10", "train", data_dir=str(tmp_path))
    planes = np.concatenate([row[0] for row in rows[:5]])
    labels = np.concatenate([row[1] for row in rows[:5]])
    got = by_pixels(train.take(np.arange(100)), train.labels)
    assert got == by_pixels(planes.transpose(0, 2, 3, 1), labels)
    assert train.names == [f"c{i}" for i in range(10)]
    assert len(load("tfds:cifar10", "test", data_dir=str(tmp_path))) == 20


def test_stl10_with_its_unlabelled_split(monkeypatch, server, tmp_path):
    rng = np.random.default_rng(2)
    images = {stem: rng.integers(0, 256, (n, 3, 96, 96), np.uint8) for stem, n in
              (("train", 10), ("test", 20), ("unlabeled", 5))}  # fmt: skip
    files = {f"stl10_binary/{stem}_X.bin": planes.tobytes() for stem, planes in images.items()}
    labels = {stem: np.arange(len(images[stem])) % 10 for stem in ("train", "test")}
    files |= {f"stl10_binary/{stem}_y.bin": (y + 1).astype(np.uint8).tobytes() for stem, y in labels.items()}
    files["stl10_binary/class_names.txt"] = "".join(f"s{i}\n" for i in range(10)).encode()
    publish(monkeypatch, server, "stl10", files)

    for split, stem in (("train", "train"), ("test", "test"), ("unlabelled", "unlabeled")):
        dataset = load("tfds:stl10", split, data_dir=str(tmp_path))
        want = images[stem].transpose(0, 3, 2, 1)  # stored column by column
        got = by_pixels(dataset.take(np.arange(len(dataset))), dataset.labels)
        assert got == by_pixels(want, labels.get(stem, np.full(len(want), -1)))
    assert dataset.names == [f"s{i}" for i in range(10)] and server.requests == 1


def test_another_process_that_was_faster(cifar100, monkeypatch, tmp_path):
    finish = prepare.prepare

    def lose(name, data_dir):
        finish(name, data_dir)
        raise UserError("cannot prepare: Directory not empty")

    monkeypatch.setattr(prepare, "prepare", lose)
    check_cifar100(tmp_path, cifar100)
