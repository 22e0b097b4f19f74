"""Cut, damaged and malicious files: one line each, at once, and no memory that a file only promises to fill."""

import contextlib
import io
import json
import re
import struct
import time
import tracemalloc

import numpy as np
import pytest

from jaxhw.errors import exit_code
from jaxhw.nerf.scenes import scene as scenes
from tests.nerf import folders
from tests.nerf.scenes.test_scenes import load_fails


@pytest.fixture(autouse=True)
def cheap():
    """Every test here ends within seconds and takes little memory."""
    tracemalloc.start()
    began = time.monotonic()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - began < 20 and peak < 200e6


def fails_within_a_line(folder, match=""):
    """Exit code 2 and a single line, besides what was said of the folder before."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert exit_code(lambda: scenes.load(str(folder), split="every:8")) == 2
    lines = said.getvalue().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors == lines[-1:] and re.search(match, errors[0]) and len(errors[0]) < 1000


@pytest.mark.parametrize("data", [b"", b"\xff" * 12, struct.pack("<Q", 2**60) + b"abc"])
def test_points_that_are_not_needed_are_not_read(tmp_path, data):
    folder = folders.write_colmap_text(tmp_path)
    (folder / "sparse" / "0" / "points3D.bin").write_bytes(data)
    assert len(scenes.load(str(folder), split="every:8").names) == 9


@pytest.mark.parametrize("data", [b"", b"\xff" * 12, struct.pack("<Q", 2**60) + b"abc"])
def test_points_that_are_needed_are_checked(tmp_path, monkeypatch, data):
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, 0, 3] = np.arange(9)
    monkeypatch.setattr(folders, "poses", lambda n=9: poses[:n])
    folder = folders.write_colmap_text(tmp_path)
    (folder / "sparse" / "0" / "points3D.bin").write_bytes(data)
    fails_within_a_line(folder, r"points3D\.bin is cut off")


CAMERA = struct.pack("<QIiQQ4d", 1, 1, 1, 16, 12, 20, 20, 8, 6)


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("cameras.bin", b"", "cameras.bin is cut off"),
        ("cameras.bin", b"\xff" * 12, "cameras.bin is cut off"),
        ("cameras.bin", CAMERA[:-1], "cameras.bin is cut off"),
        ("cameras.bin", struct.pack("<QIiQQ4d", 1, 1, 99, 16, 12, 20, 20, 8, 6), "is of model number 99"),
        ("cameras.bin", struct.pack("<QIiQQ4d", 1, 1, 1, 2**63, 12, 20, 20, 8, 6), "both must be positive and at most"),
        ("cameras.bin", struct.pack("<QIiQQ4d", 1, 7, 1, 16, 12, 20, 20, 8, 6), "has camera 1, which is none"),
        ("cameras.bin", struct.pack("<QIiQQ4d", 1, 1, 1, 16, 12, 1e300, 20, 8, 6), "too large to be meant"),
        ("images.bin", b"", "images.bin is cut off"),
        ("images.bin", bytes(8), "has no images"),
        ("images.bin", b"\xff" * 100, "images.bin is cut off"),
        ("images.bin", struct.pack("<Q", 1) + b"a" * 500, "images.bin is cut off"),
        ("images.txt", b"1 2 3\n", "images.txt is damaged"),
        ("images.txt", b"1 a b c d e f g 1 x.png\n\n", "images.txt is damaged"),
        ("images.txt", b"1 0 0 0 0 0 0 0 1 000.png\n\n2 1 0 0 0 0 0 0 1 001.png\n", "not finite"),
        ("cameras.txt", b"1 PINHOLE 16 12 20\n", "1 parameters, PINHOLE takes 4"),
        ("cameras.txt", b"1 PINHOLE x 12 20 20 8 6\n", "cameras.txt is damaged"),
        ("cameras.txt", b"\xff\xfe\x00", "cameras.txt is damaged"),
    ],
)
def test_colmaps_files(tmp_path, name, data, match):
    folder = folders.write_colmap_text(tmp_path)
    (folder / "sparse" / "0" / name).write_bytes(data)
    fails_within_a_line(folder, match)


def header(text):
    """A file of numpy's format, version 1.0, with a header of our own and no numbers."""
    data = text.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(data)) + data


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 17), }"), "cut off"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (9, 17), }"), "cut off"),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (9, 17), }"), "it holds object, not numbers"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 17), }"), "cannot read|no poses"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 17), }"), "no poses"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (9, 17" + "(" * 9000), "cannot read"),
        (header("junk"), "cannot read"),
        (b"\x93NUMPY\x07\x00ab", "cannot read"),
        (b"PK\x03\x04", "cannot read"),
        (b"", "cannot read"),
    ],
)
def test_headers_of_poses_bounds(tmp_path, data, match):
    folder = folders.write_llff(tmp_path)
    (folder / "poses_bounds.npy").write_bytes(data)
    fails_within_a_line(folder, match)


def test_archives_and_objects_as_poses_bounds(tmp_path):
    folder = folders.write_llff(tmp_path)
    with (folder / "poses_bounds.npy").open("wb") as file:
        np.savez(file, np.zeros((9, 17)))
    fails_within_a_line(folder, "cannot read")
    np.save(folder / "poses_bounds.npy", np.full((9, 17), {}), allow_pickle=True)
    fails_within_a_line(folder, "not numbers")


@pytest.mark.parametrize("bounds", [(0, 10), (-1, 10), (5, 2), (1, 1e300), (1e300, 1e301), (1e-300, 1)])
def test_bounds_of_poses_bounds(tmp_path, bounds):
    folder = folders.write_llff(tmp_path)
    table = np.load(folder / "poses_bounds.npy")
    table[4, 15:] = bounds
    np.save(folder / "poses_bounds.npy", table)
    fails_within_a_line(folder, "the bounds of 00.*png, .* are no near and far distances")


@pytest.mark.parametrize("value", [0, -4, 1e300])
@pytest.mark.parametrize("column", [4, 9, 14])
def test_sizes_and_focal_lengths_of_poses_bounds(tmp_path, value, column):
    folder = folders.write_llff(tmp_path)
    table = np.load(folder / "poses_bounds.npy")
    table[:, column] = value
    np.save(folder / "poses_bounds.npy", table)
    fails_within_a_line(folder, "000.png has a")


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".png", "a\0b.png", "\ud800.png", "../" * 2000 + "x.png", "a\nb.png", "", "/"]
)
def test_names_that_no_file_has(tmp_path, capsys, name):
    content = folders.transforms()
    content["frames"][3]["file_path"] = name
    scene = scenes.load(str(folders.write_transforms(tmp_path, **content)), split="every:8")
    assert len(scene.names) == 8
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 2 and "skipping 1 of 9 frames" in lines[0] and len(lines[0]) < 600
    content["frames"] = content["frames"][3:4]
    folders.write_json(tmp_path / "transforms.json", content)
    fails_within_a_line(tmp_path, "has no images")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "\ufeff{}", "1" * 5000])
def test_json_that_is_none(tmp_path, text):
    folder = folders.write_transforms(tmp_path)
    (folder / "transforms.json").write_text(text)
    fails_within_a_line(folder, "cannot read .*transforms.json")
    (folder / "transforms.json").rename(folder / "transforms_train.json")
    fails_within_a_line(folder, "cannot read .*transforms_train.json")


@pytest.mark.parametrize(
    "change",
    [
        {"transform_matrix": [[1, 2], [3]]},
        {"transform_matrix": [[10**400] * 4] * 4},
        {"transform_matrix": [[1e300] * 4] * 4},
        {"transform_matrix": {"a": 1}},
        {"transform_matrix": None},
        {"file_path": 3},
        {"file_path": ["a"]},
        {"w": 10**300},
        {"w": -1},
        {"fl_x": 1e300},
        {"cx": 1e300},
        {"k1": "much"},
        {"k1": 1e300},
        {"camera_model": ["OPENCV"]},
        {"mask_path": 5},
    ],
)
def test_values_of_a_wrong_kind_or_size(tmp_path, change):
    content = folders.transforms()
    content["frames"][3] |= change
    folder = folders.write_transforms(tmp_path)
    (folder / "transforms.json").write_text(json.dumps(content))
    fails_within_a_line(folder)


def test_folders_that_fail_are_told_by_name(tmp_path):
    load_fails(folders.write_transforms(tmp_path, train_filenames=[3]), "transforms.json")


@pytest.mark.parametrize("size", ["1" + "0" * 400 + " 12", "16 1" + "0" * 400, "-1" + "0" * 400 + " 12"])
def test_a_size_of_400_digits_is_one_line(tmp_path, size):
    """No number that a float could hold, which a message must not need."""
    folder = folders.write_colmap_text(tmp_path / "scene", camera=f"PINHOLE {size} 20 20 8.5 5.5")
    fails_within_a_line(folder, r"has a camera of .* pixels: both must be positive and at most 1000000")
    wide, high = map(int, size.split())
    folder = folders.write_transforms(tmp_path / "other", w=wide, h=high)
    fails_within_a_line(folder, r"is not a transforms\.json|pixels: both must be positive and at most 1000000")
