"""The sparse points of a capture: in the frame of training, from the model that belongs to it, and what they say."""

import shutil
import struct

import numpy as np
import pytest

from jaxhw.nerf.results.run import setting
from jaxhw.nerf.scenes import points as sparse
from jaxhw.nerf.scenes import saved
from jaxhw.nerf.scenes import scene as scenes
from jaxhw.nerf.scenes.placing import FAR, NEAR
from tests.nerf import folders
from tests.nerf.folders import N

MIDDLE = np.array([0.3, -0.2, 0.5])  # of the ring of cameras, 3 away
APPLIED = np.array([[0.0, 1, 0, 0.5], [1, 0, 0, 0], [0, 0, -1, 2]])


def cloud(radius=0.5, count=200):
    """[count, 3] in a ball around the ring's middle."""
    points = np.random.default_rng(0).normal(size=(count, 3))
    points *= radius * np.random.default_rng(1).random((count, 1)) / np.linalg.norm(points, axis=1, keepdims=True)
    return MIDDLE + points


def colmap(folder, points):
    return folders.write_points(folders.write_colmap_text(folder), points)


def nerfstudio(folder, points, model="sparse/0", moved=APPLIED, frame=APPLIED):
    """A transforms.json in the frame `moved`, that says it were in `frame`, beside a model and its points."""
    colmap(folder, points)
    content = folders.transforms(applied_transform=frame.tolist())
    for entry in content["frames"]:
        entry["transform_matrix"] = (np.vstack([moved, [0, 0, 0, 1]]) @ entry["transform_matrix"]).tolist()
    folders.write_json(folder / "transforms.json", content)
    if model != "sparse/0":
        (folder / model).parent.mkdir(parents=True)
        shutil.move(folder / "sparse" / "0", folder / model)
    return folder


def load(folder):
    return scenes.load(str(folder), split="every:8")


def in_capture(scene):
    return scene.points @ scene.to_capture[:3, :3].T + scene.to_capture[:3, 3]


def test_points_are_in_the_frame_of_training(tmp_path):
    scene = load(colmap(tmp_path, cloud()))
    assert scene.points.dtype == np.float32
    np.testing.assert_allclose(in_capture(scene), cloud(), atol=1e-5)
    assert setting(scene).points is scene.points


@pytest.mark.parametrize("model", ["sparse/0", "colmap/sparse/0"])
def test_a_model_beside_transforms_json_is_in_the_frame_before_applied_transform(tmp_path, model):
    scene = load(nerfstudio(tmp_path, cloud(), model))
    np.testing.assert_allclose(in_capture(scene), cloud(), atol=1e-5)
    assert scene.near_from == "points"


def test_a_model_whose_cameras_are_elsewhere_is_told_and_left_alone(tmp_path, capsys):
    """As of older exports, which moved the poses and said nothing of it."""
    scene = load(nerfstudio(tmp_path, cloud(), frame=np.eye(4)[:3]))
    assert not len(scene.points) and scene.near_from == "guess"
    assert "its cameras are elsewhere than those of transforms.json, by " in capsys.readouterr().err


def test_a_model_of_other_pictures_is_told_and_left_alone(tmp_path, capsys):
    nerfstudio(tmp_path, cloud())
    listing = tmp_path / "sparse" / "0" / "images.txt"
    listing.write_text(listing.read_text().replace(".png", "_old.png"))
    assert not len(load(tmp_path).points)
    assert "it has no image of those that transforms.json names" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["images.bin", "points3D.bin"])
def test_a_damaged_model_beside_transforms_json_is_done_without(tmp_path, capsys, name):
    nerfstudio(tmp_path, cloud())
    (tmp_path / "sparse" / "0" / name).write_bytes(b"\xff" * 12)
    scene = load(tmp_path)
    assert len(scene.names) == N and not len(scene.points)
    told = capsys.readouterr().err.splitlines()
    assert sum("done without the points" in line and "is cut off" in line for line in told) == 1


def test_points_that_are_no_numbers_are_left_out(tmp_path):
    points = np.concatenate([cloud(), [[np.nan, 0, 0], [np.inf, 0, 0], [1e30, 0, 0]]])
    np.testing.assert_allclose(in_capture(load(colmap(tmp_path, points))), cloud(), atol=1e-5)


def test_near_is_before_the_nearest_points_in_any_picture(tmp_path):
    """Cameras 3 from the middle and more see a ball of half a unit; one in a hundred points may be nearer."""
    scene = load(colmap(tmp_path, cloud(count=2000)))
    size = np.cbrt(np.linalg.det(scene.to_capture[:3, :3]))
    distance = np.linalg.norm(scene.cameras.pose[0, :, 3]) * size
    assert 0.8 * (distance - 0.5) < scene.near * size < 0.8 * (distance - 0.3)
    assert (scene.far, scene.near_from) == (FAR, "points")


def test_points_that_no_picture_shows_say_nothing_of_near(tmp_path):
    """All are behind the cameras, or too few: one picture's worth is a matter of chance."""
    scene = load(colmap(tmp_path / "above", cloud() + np.array([0, 0, 40])))
    assert (scene.near, scene.near_from) == (NEAR, "guess") and len(scene.points) == 200
    assert load(colmap(tmp_path / "few", cloud(count=sparse.LEAST - 1))).near_from == "guess"
    assert load(colmap(tmp_path / "enough", cloud(count=sparse.LEAST))).near_from == "points"


def test_bounds_of_a_format_come_first(tmp_path):
    scene = load(folders.write_llff(tmp_path))
    assert scene.near_from == "format" and scene.far < FAR and not len(scene.points)
    assert load(folders.write_transforms(tmp_path / "none")).near_from == "guess"


def test_statistics_take_a_part_of_many_points():
    points = np.arange(3 * 50_001).reshape(-1, 3)
    thin = sparse.thinned(points)
    assert 10_000 < len(thin) <= sparse.MOST and thin[-1, 0] > 140_000
    assert len(sparse.thinned(points[:7])) == 7 and not len(sparse.thinned(points[:0]))


def test_a_workdir_keeps_what_near_is_from_and_the_points(tmp_path):
    scene = load(colmap(tmp_path, cloud()))
    saved.write(scene, tmp_path / "scene.json")
    again = saved.read(tmp_path / "scene.json")
    assert (again.near, again.near_from, len(again.points)) == (scene.near, "points", len(scene.points))
    text = (tmp_path / "scene.json").read_text()
    (tmp_path / "scene.json").write_text(text.replace(', "near_from": "points"', ""))
    assert saved.read(tmp_path / "scene.json").near_from == "format"  # a run from before takes its near as it was


def test_binary_points(tmp_path):
    colmap(tmp_path, cloud(count=3))
    record = [struct.pack("<Q3d3BdQ2I", i, *point, 1, 2, 3, 0.5, 1, 1, 1) for i, point in enumerate(cloud())]
    (tmp_path / "sparse" / "0" / "points3D.bin").write_bytes(struct.pack("<Q", len(record)) + b"".join(record))
    np.testing.assert_allclose(in_capture(load(tmp_path)), cloud(), atol=1e-5)
