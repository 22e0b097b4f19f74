"""An exported cloud is shown where the scene is, in its colours or by what is known of its points."""

import types

import numpy as np
import pytest
import trimesh

from jaxhw.errors import UserError
from jaxhw.nerf.results import cloud_files
from jaxhw.nerf.results.points import Cloud
from jaxhw.nerf.viewer import clouds

POINTS = np.float32([[0, 0, 0], [1, 2, 3], [4, 5, 6]])
COLOURS = np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 255]])


def to_capture():
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = 1, 0, 0
    return matrix


def test_it_comes_back_into_the_scenes_frame(tmp_path):
    np.savez(tmp_path / "points.npz", points=2 * POINTS + [1, 0, 0], colours=COLOURS, observers=np.array([1, 5, 9]))
    found = clouds.exported(tmp_path / "points.npz", to_capture())
    points, colours = found["exported points"]
    np.testing.assert_allclose(points, POINTS, atol=1e-6)
    np.testing.assert_array_equal(colours, COLOURS)
    by_number = found["exported points by observers"][1].astype(int).sum(1)
    assert by_number[0] < by_number[1] < by_number[2]  # few are dark


def test_a_ply_file_gives_the_same(tmp_path):
    trimesh.PointCloud(2 * POINTS + [1, 0, 0], colors=COLOURS).export(tmp_path / "points.ply")
    points, colours = clouds.exported(tmp_path / "points.ply", to_capture())["exported points"]
    np.testing.assert_allclose(points, POINTS, atol=1e-6)
    np.testing.assert_array_equal(colours, COLOURS)


def test_a_ply_files_measures_are_shown(tmp_path):
    observers, spread = np.int32([1, 5, 9]), np.float32([0.1, 0.3, 0.2])
    cloud = Cloud(POINTS, POINTS, COLOURS, observers, spread)
    cloud_files.write(tmp_path / "points.ply", cloud, uncertainty=True)
    found = clouds.exported(tmp_path / "points.ply", np.eye(4))
    assert set(found) == {"exported points", "exported points by observers", "exported points by spread"}
    bright = {name: colours.astype(int).sum(1) for name, (_, colours) in found.items()}
    assert np.argsort(bright["exported points by observers"]).tolist() == [0, 1, 2]
    assert np.argsort(bright["exported points by spread"]).tolist() == [0, 2, 1]


def test_very_many_points_are_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr(clouds, "MOST", 2)
    np.savez(tmp_path / "points.npz", points=POINTS, colours=COLOURS)
    assert len(clouds.exported(tmp_path / "points.npz", np.eye(4))["exported points"][0]) == 2


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_one_is_one_line(tmp_path, content):
    path = tmp_path / "points.npz"
    np.savez(path, xyz=POINTS) if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match="is no exported point cloud"):
        clouds.exported(path, np.eye(4))


def test_clouds_that_there_are_are_put_into_the_page(tmp_path):
    np.savez(tmp_path / "points.npz", points=POINTS, colours=COLOURS)
    added = []
    server = types.SimpleNamespace(
        scene=types.SimpleNamespace(add_point_cloud=lambda name, **v: added.append((name, v)))
    )
    scene = types.SimpleNamespace(points=POINTS, to_capture=np.eye(4))
    assert set(clouds.add(server, scene, tmp_path, 1.0)) == {"sparse points", "exported points"}
    assert all(v["precision"] == "float32" and not v["visible"] for _, v in added)
    assert not clouds.add(
        server, types.SimpleNamespace(points=POINTS[:0], to_capture=np.eye(4)), tmp_path / "none", 1.0
    )
