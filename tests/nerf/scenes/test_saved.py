import dataclasses
import json

import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.scenes import saved
from jaxhw.nerf.scenes import scene as scenes
from tests.nerf import folders
from tests.nerf.folders import HEIGHT, WIDTH, N


def same(a, b):
    for name in ("pose", "focal", "centre", "distortion", "size"):
        np.testing.assert_array_equal(getattr(a.cameras, name), getattr(b.cameras, name), strict=True)
    assert (a.names, a.near, a.far, a.unbounded) == (b.names, b.near, b.far, b.unbounded)
    assert a.cameras.model == b.cameras.model
    np.testing.assert_array_equal(a.to_capture, b.to_capture)
    assert {k: v.tolist() for k, v in a.split.items()} == {k: v.tolist() for k, v in b.split.items()}


def test_everything_but_the_pixels_is_kept(tmp_path):
    scene = scenes.load(str(folders.write_mixed(tmp_path)), split="every:8")
    saved.write(scene, tmp_path / "scene.json")
    again = saved.read(tmp_path / "scene.json")
    same(scene, again)
    assert len(again.pictures) == N and again.pictures.count == 0
    np.testing.assert_array_equal(again.pictures.size, folders.mixed_sizes())


def test_points_are_kept_and_older_files_have_none(tmp_path):
    found = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    scene = dataclasses.replace(scenes.load(str(folders.write_mixed(tmp_path)), split="every:8"), points=found)
    path = tmp_path / "scene.json"
    saved.write(scene, path)
    np.testing.assert_allclose(saved.read(path).points, found, atol=1e-5)
    values = json.loads(path.read_text())
    del values["points"]
    path.write_text(json.dumps(values))
    assert saved.read(path).points.shape == (0, 3)


def test_files_from_before_pictures_could_differ_in_size(tmp_path):
    scene = scenes.load(str(folders.write_blender(tmp_path)))
    path = tmp_path / "scene.json"
    saved.write(scene, path)
    values = json.loads(path.read_text())
    del values["cameras"]["size"]
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"scene\.json is damaged .*width"):
        saved.read(path)
    values["cameras"] |= {"width": WIDTH, "height": HEIGHT}
    path.write_text(json.dumps(values))
    same(scene, saved.read(path))


@pytest.mark.parametrize(
    "cameras", [{"size": [[16, 12]]}, {"size": [[16, 12, 3]] * N}, {"size": [["a", 12]] * N}, {"size": [[1e99, 1]] * N}]
)
def test_damaged_sizes(tmp_path, cameras):
    path = tmp_path / "scene.json"
    saved.write(scenes.load(str(folders.write_transforms(tmp_path)), split="every:8"), path)
    values = json.loads(path.read_text())
    values["cameras"] |= cameras
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"scene\.json is damaged"):
        saved.read(path)
    with pytest.raises(UserError, match="no workdir of a NeRF run"):
        saved.read(tmp_path / "other.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda values: "[" * 100_000,
        lambda values: "null",
        lambda values: json.dumps(values).replace(str(values["near"]), "NaN"),
        lambda values: json.dumps(values | {"near": "a"}),
        lambda values: json.dumps(values | {"near": values["far"]}),
        lambda values: json.dumps(values | {"names": values["names"][1:]}),
        lambda values: json.dumps(values | {"names": [1] * N}),
        lambda values: json.dumps(values | {"split": {"train": [0, 99]}}),
        lambda values: json.dumps(values | {"split": {"train": [0], "val": [], "test": [99]}}),
        lambda values: json.dumps(values | {"to_capture": [[1, 2], [3]]}),
        lambda values: json.dumps(values | {"cameras": values["cameras"] | {"model": ["PINHOLE"]}}),
        lambda values: json.dumps(values | {"cameras": values["cameras"] | {"pose": [[1, 2, 3]] * N}}),
        lambda values: json.dumps(values | {"cameras": values["cameras"] | {"focal": [[10**400, 1]] * N}}),
        lambda values: json.dumps(values | {"cameras": []}),
    ],
)
def test_damaged_files_are_one_line(tmp_path, change):
    path = tmp_path / "scene.json"
    saved.write(scenes.load(str(folders.write_transforms(tmp_path)), split="every:8"), path)
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(UserError, match=r"scene\.json is damaged") as raised:
        saved.read(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 600
