"""Clouds of the demo's solids by closed form: where points lie, which way they face, who sees them."""

import dataclasses

import numpy as np
import pytest
import trimesh

from jaxhw.errors import UserError
from jaxhw.nerf.results import cloud_files, points
from jaxhw.nerf.results.depth_maps import SOLID, DepthMaps, observe, observers_of
from tests.nerf import demo_surface

MOVE = np.array([[0, -2.0, 0, 5], [2, 0, 0, -1], [0, 0, 2, 3], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def run():
    return demo_surface.run()


@pytest.fixture(scope="module")
def cloud(run):
    return points.make(run, 4000)


def with_renderer(run, change):
    """A run whose pictures `change(number of the call, rendered)` has changed."""

    class Changed:
        mesh, calls = run.renderer.mesh, -1

        def __call__(self, variables, camera):
            self.calls += 1
            return change(self.calls, run.renderer(variables, camera))

    return dataclasses.replace(run, renderer=Changed())


def test_points_lie_on_the_surface_and_face_out_of_it(cloud):
    assert 3950 < len(cloud) <= 4000
    assert np.quantile(np.abs(demo_surface.distance(cloud.points)), 0.99) < 1e-3
    cosine = (cloud.normals * demo_surface.normal(cloud.points)).sum(1)
    assert np.median(cosine) > 0.995 and (cosine > 0).mean() > 0.99
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(cloud.colours / 255, demo_surface.colour(cloud.points), atol=0.003)


def test_the_same_on_many_devices(cloud):
    again = points.make(demo_surface.run(devices=8), 4000)
    np.testing.assert_allclose(again.points, cloud.points, atol=1e-5)
    np.testing.assert_array_equal(again.observers, cloud.observers)


def test_observers_are_the_cameras_with_nothing_in_between(run):
    """By rays from each camera to points on top of the box; cameras that only graze it may count or not."""
    maps = DepthMaps.render(run, 400_000)
    rng = np.random.default_rng(0)
    top = np.stack([rng.uniform(-0.1, 0.1, 20) + 0.5, rng.uniform(-0.1, 0.1, 20) + 0.35, np.full(20, 0.26)], 1)
    at = top.astype(np.float32)
    seen, least, most = observe(run, maps, at), 0, 0
    for camera in range(len(maps.cameras)):
        toward = at - maps.cameras.pose[camera, :, 3]
        far = np.linalg.norm(toward, axis=1)
        reached = demo_surface.depth(maps.cameras.pose[camera, :, 3], toward / far[:, None])
        meets = np.asarray(np.abs(reached - far) < 0.01)
        least += meets & (-toward[:, 2] > 0.6 * far)
        most += meets
    assert (least > 15).all() and (least <= seen.count).all() and (seen.count <= most).all()
    floating = observe(run, maps, at + np.float32([0, 0, 0.4]))
    assert (floating.count == 0).all() and (floating.against > 40).all()
    assert (seen.spread < 0.03).all() and (seen.parallax > 0.2).all()


def test_a_picture_of_what_nobody_saw(run):
    """A camera below the plate, where the training cameras are above it; one of them sees what others see."""
    maps, camera = DepthMaps.render(run), run.cameras[40]
    under = camera.replace(pose=camera.pose * np.float32([[1, 1, 1, 1], [1, 1, 1, 1], [-1, -1, -1, -1]]))
    rendered = run.render(under)
    count = observers_of(run, maps, under, rendered)
    middle = rendered.opacity[12:20, 12:20] > 0
    assert middle.all() and (count[12:20, 12:20] == 0).mean() > 0.95
    rendered = run.render(camera)
    count = observers_of(run, maps, camera, rendered)
    solid = rendered.opacity > SOLID
    assert (count[~solid] == 0).all() and (count[solid] > 0).mean() > 0.99 and np.median(count[solid]) > 20


def test_rays_that_are_half_transparent_give_no_point(run):
    """Whatever colour is behind them."""
    thin = with_renderer(run, lambda _, seen: seen.replace(opacity=seen.opacity * (SOLID - 0.01)))
    with pytest.raises(UserError, match="no surface is seen by two of the training cameras"):
        points.make(thin, 100)


def test_what_one_camera_alone_sees_is_no_surface(run):
    """One camera in six sees a wall close before it."""
    wall = lambda call, seen: seen.replace(depth=seen.depth * 0 + 2.2, opacity=seen.opacity * 0 + 1)
    walls = with_renderer(run, lambda call, seen: wall(call, seen) if call % 6 == 0 else seen)
    cloud = points.make(walls, 3000)
    off = np.abs(demo_surface.distance(cloud.points))
    assert (off > 0.1).mean() < 0.01 and len(cloud) > 2500


def test_a_background_at_any_distance_is_no_surface(run):
    """All cameras agree on it, and none from another direction."""
    far = with_renderer(run, lambda _, seen: seen.replace(depth=seen.depth + 1000.0, opacity=seen.opacity * 0 + 1))
    near = dataclasses.replace(far, cameras=far.cameras.replace(pose=far.cameras.pose[[0] * len(far.cameras)]))
    with pytest.raises(UserError, match="no surface"):
        points.make(near, 100)


def test_outliers_have_no_neighbours():
    rng = np.random.default_rng(0)
    at = rng.uniform(size=(2000, 3))
    at[7] = [9, 9, 9]
    keep = points.inliers(at)
    assert not keep[7] and keep.sum() == 1999
    assert points.inliers(at[:5]).all()


def test_a_moved_cloud(cloud):
    moved = cloud.moved(MOVE)
    np.testing.assert_allclose(moved.points, cloud.points @ MOVE[:3, :3].T + MOVE[:3, 3], atol=1e-5)
    np.testing.assert_allclose(moved.normals, cloud.normals @ MOVE[:3, :3].T / 2, atol=1e-6)


@pytest.mark.parametrize("uncertainty", [False, True])
def test_files(cloud, tmp_path, uncertainty):
    for name in ("cloud.ply", "cloud.npz"):
        cloud_files.write(tmp_path / name, cloud, uncertainty)
    read = trimesh.load(tmp_path / "cloud.ply")
    np.testing.assert_array_equal(read.vertices, cloud.points)
    np.testing.assert_array_equal(read.colors[:, :3], cloud.colours)
    data = read.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_array_equal(np.stack([data[n].ravel() for n in ("nx", "ny", "nz")], 1), cloud.normals)
    arrays = np.load(tmp_path / "cloud.npz")
    assert ("observers" in data.dtype.names) == ("observers" in arrays) == uncertainty
    np.testing.assert_array_equal(arrays["points"], cloud.points)
    if uncertainty:
        np.testing.assert_array_equal(data["observers"].ravel(), cloud.observers)
        np.testing.assert_array_equal(data["colour_spread"].ravel(), arrays["spread"])
    for name in ("cloud.ply", "cloud.npz"):
        found = cloud_files.read(tmp_path / name)
        assert found.keys() == arrays.keys()
        for key, values in found.items():
            np.testing.assert_array_equal(values, arrays[key])
