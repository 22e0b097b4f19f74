import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.results import trajectories
from jaxhw.nerf.results.trajectories import look_at

CENTRE, UP = np.array([0.3, -0.2, 0.5]), np.array([0.0, 0.0, 1.0])


def cameras(poses):
    n = len(poses)
    return Cameras(
        pose=np.asarray(poses, np.float32),
        focal=np.tile(np.float32([40, 42]), (n, 1)),
        centre=np.tile(np.float32([15, 13]), (n, 1)),
        distortion=np.full((n, 4), 0.01, np.float32),
        size=np.tile(np.int32([32, 24]), (n, 1)),
        model="OPENCV",
    )


def ring(azimuth, radius=2.0, height=1.0, wide=1.0):
    azimuth = np.asarray(azimuth)
    out = np.stack([wide * radius * np.cos(azimuth), radius * np.sin(azimuth), np.full(len(azimuth), height)], 1)
    return cameras(look_at(CENTRE + out, CENTRE, UP))


def check_poses(path):
    rotation = path.pose[:, :, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (len(path), 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-5)


def misses(path, point):
    """How far each optical axis passes the point by."""
    return np.linalg.norm(np.cross(point - path.pose[:, :, 3], path.pose[:, :, 2]), axis=1)


AROUND = np.linspace(0, 2 * np.pi, 12, endpoint=False) + 0.4


@pytest.mark.parametrize("name", trajectories.PATHS)
def test_paths_are_pinholes_of_the_cameras_size(name):
    path = trajectories.make(name, ring(AROUND), 7)
    assert (path.size.tolist(), path.model) == ([[32, 24]] * 7, "PINHOLE")
    np.testing.assert_allclose(path.focal, np.tile([[40.0, 42.0]], (7, 1)))
    np.testing.assert_allclose(path.centre, np.tile([[16.0, 12.0]], (7, 1)))
    assert not path.distortion.any() and path.pose.dtype == np.float32
    check_poses(path)


@pytest.mark.parametrize(
    "portraits, size, focal",
    [
        ([0, 5, 7], [32, 24], [40, 42]),  # three of twelve
        (range(1, 12, 2), [32, 24], [40, 42]),  # as many: the first camera's
        (range(1, 12), [24, 32], [56, 60]),
    ],
)
def test_paths_have_the_most_common_size(portraits, size, focal):
    given, portraits = ring(AROUND), list(portraits)
    given.size[portraits], given.focal[portraits] = [24, 32], [50, 60]
    given.focal[portraits[::2], 0] += 6 * len(portraits) / len(portraits[::2])  # 56 on average
    path = trajectories.orbit(given, 5)
    assert path.size.tolist() == [size] * 5
    np.testing.assert_allclose(path.focal, [focal] * 5, rtol=1e-6)
    np.testing.assert_allclose(path.centre, np.tile(path.size[:1] / 2, (5, 1)))
    check_poses(path)


def test_orbit_follows_the_ring():
    path = trajectories.orbit(ring(AROUND), 24)
    position = path.pose[:, :, 3] - CENTRE
    np.testing.assert_allclose(position[:, 2], 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(position[:, :2], axis=1), 2, atol=1e-5)
    assert misses(path, CENTRE).max() < 1e-5
    np.testing.assert_allclose(path.pose[:, 2, 0], 0, atol=1e-6)  # the horizon is level
    steps = np.linalg.norm(np.roll(position, -1, 0) - position, axis=1)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)  # once around, and back to the start
    assert (path.pose[:, 2, 1] < 0).all()  # y points down


def test_orbit_stays_where_the_cameras_were():
    path = trajectories.orbit(ring(np.linspace(-0.5, 0.9, 8)), 40)
    azimuth = np.arctan2(*(path.pose[:, :2, 3] - CENTRE[:2]).T[::-1])
    assert azimuth.min() == pytest.approx(-0.5, abs=1e-4) and azimuth.max() == pytest.approx(0.9, abs=1e-4)
    assert np.abs(np.diff(azimuth, append=azimuth[0])).max() < 0.2


def test_ellipse_is_as_wide_as_the_cameras_and_even():
    path = trajectories.ellipse(ring(np.linspace(0, 2 * np.pi, 400), wide=2.0), 100)
    position = path.pose[:, :, 3] - CENTRE
    assert np.abs(position[:, 0]).max() == pytest.approx(4, rel=0.02)
    assert np.abs(position[:, 1]).max() == pytest.approx(2, rel=0.02)
    np.testing.assert_allclose(position[:, 2], 1, atol=1e-3)
    steps = np.linalg.norm(np.roll(position, -1, 0) - position, axis=1)
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.02)
    assert misses(path, CENTRE).max() < 1e-4


def test_spiral_stays_among_the_cameras():
    grid = np.stack(np.meshgrid([-0.2, 0, 0.2], [-3.0], [-0.1, 0, 0.1], indexing="ij"), -1).reshape(-1, 3)
    given = cameras(look_at(CENTRE + grid, CENTRE, UP))
    path = trajectories.spiral(given, 60)
    offset = path.pose[:, :, 3] - CENTRE - [0, -3, 0]
    assert np.abs(offset[:, 0]).max() == pytest.approx(0.2, rel=0.02)
    assert np.abs(offset[:, 2]).max() == pytest.approx(0.1, rel=0.02)
    assert misses(path, CENTRE).max() < 1e-3


def test_interpolation_passes_every_camera_in_a_sensible_order():
    azimuth = np.linspace(0, 2, 9)
    shuffled = ring(azimuth[[0, 5, 2, 8, 1, 7, 3, 6, 4]])
    path = trajectories.interpolate(shuffled, 161)
    check_poses(path)
    steps = np.linalg.norm(np.diff(path.pose[:, :, 3], axis=0), axis=1)
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.05)
    expected = ring(azimuth).pose
    np.testing.assert_allclose(path.pose[::20], expected, atol=2e-3)
    assert misses(path, CENTRE).max() < 0.02


def stop(**changes):
    pose = np.eye(4)
    pose[:3, 3] = [1, 2, 3]
    return {"camera_to_world": pose.ravel().tolist(), "fov": 90.0, "aspect": 1.5} | changes


def camera_path(**changes):
    content = {"camera_type": "perspective", "render_width": 60, "render_height": 40, "camera_path": [stop()]}
    return content | changes


def similarity(scale, position):
    """[4, 4]: a turn about an axis that is none of the frame's, a scale and a position."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * Rotation.from_rotvec([0.4, -0.7, 0.2]).as_matrix()
    matrix[:3, 3] = position
    return matrix


def test_a_camera_path_is_brought_from_the_captures_frame_into_the_scenes(tmp_path):
    file, to_capture = tmp_path / "path.json", similarity(2.5, [3, -1, 2])
    file.write_text(json.dumps(camera_path()))
    there = trajectories.make(str(file), ring(AROUND), 5).pose[0]
    here = trajectories.make(str(file), ring(AROUND), 5, to_capture)
    check_poses(here)
    for ahead in (0.0, 4.0):  # points on the optical axis
        point = here.pose[0, :, 3] + ahead / 2.5 * here.pose[0, :, 2]
        np.testing.assert_allclose(
            to_capture[:3, :3] @ point + to_capture[:3, 3], there[:, 3] + ahead * there[:, 2], atol=1e-5
        )


def test_nerfstudios_own_frame_is_undone_where_its_transform_lies_beside_the_path(tmp_path):
    """As nerfstudio makes it: poses turned and moved by `transform`, then positions times `scale`."""
    turn = similarity(1.0, [0.5, 0.1, -2])
    pose = np.array(camera_path()["camera_path"][0]["camera_to_world"]).reshape(4, 4)
    trained = turn @ pose
    trained[:3, 3] *= 0.3
    plain, own = tmp_path / "plain.json", tmp_path / "own" / "path.json"
    own.parent.mkdir()
    plain.write_text(json.dumps(camera_path()))
    own.write_text(json.dumps(camera_path(camera_path=[{"camera_to_world": trained.ravel().tolist(), "fov": 90}])))
    transforms = own.with_name("dataparser_transforms.json")
    transforms.write_text(json.dumps({"transform": turn[:3].tolist(), "scale": 0.3}))
    given = [trajectories.make(str(file), ring(AROUND), 5, similarity(2.0, [1, 2, 3])).pose for file in (plain, own)]
    np.testing.assert_allclose(*given, atol=1e-5)
    transforms.write_text(json.dumps({"transform": turn[:3].tolist(), "scale": 0}))
    with pytest.raises(UserError, match="no transform and scale as nerfstudio writes them: a rotation"):
        trajectories.make(str(own), ring(AROUND), 5)


def test_nerfstudios_camera_path(tmp_path):
    file = tmp_path / "path.json"
    file.write_text(json.dumps(camera_path()))
    path = trajectories.make(str(file), ring(AROUND), 5)
    assert path.size.tolist() == [[60, 40]]
    np.testing.assert_allclose(path.focal, [[20, 20]], rtol=1e-6)  # half of 40 at 45 degrees
    np.testing.assert_allclose(path.pose[0], [[1, 0, 0, 1], [0, -1, 0, 2], [0, 0, -1, 3]])


@pytest.mark.parametrize(
    "content, match",
    [
        (camera_path(camera_type="equirectangular"), "equirectangular, which is not supported"),
        (camera_path(camera_path=[]), "empty camera path"),
        (camera_path(camera_path=[{"fov": 50}]), "no 'camera_to_world'"),
        (camera_path(camera_path=[{"camera_to_world": [1, 2]}]), "not a camera path"),
        (camera_path(camera_path=[stop(fov=0)]), "camera 0 has a field of view of 0 degrees"),
        (camera_path(camera_path=[stop(fov=200)]), "field of view of 200 degrees"),
        (camera_path(camera_path=[stop(), stop(fov=float("nan"))]), "camera 1 has a field of view of nan"),
        (camera_path(camera_path=[stop(camera_to_world=[float("nan")] * 16)]), "numbers that are not finite"),
        (camera_path(camera_path=[stop(camera_to_world=np.diag([3.0, 3, 3, 1]).tolist())]), "not a rotation"),
        (camera_path(render_width=float("inf")), "not a camera path"),
        (camera_path(render_height=0), "must be positive"),
        ([], "not a camera path"),
    ],
)
def test_bad_camera_paths(tmp_path, content, match):
    file = tmp_path / "path.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=match):
        trajectories.make(str(file), ring(AROUND), 5)


def test_unknown_paths():
    with pytest.raises(UserError, match="unknown: choose orbit"):
        trajectories.make("loop", ring(AROUND), 5)
    with pytest.raises(UserError, match="frames=0"):
        trajectories.make("orbit", ring(AROUND), 0)


def test_paths_that_are_not_finite_are_refused():
    given = ring(AROUND)
    given.pose[:, :, 3] = CENTRE
    for name in ("orbit", "ellipse"):
        with pytest.raises(UserError, match=f"these cameras make no {name}: they are at one place"):
            trajectories.make(name, given, 5)


def test_up_is_the_scenes_whatever_the_cameras_say():
    tilted = ring(AROUND)
    tilted.pose[:, :, :3] = tilted.pose[:, :, :3] @ Rotation.from_rotvec([0, 0, 0.4]).as_matrix().astype(np.float32)
    for name in ("orbit", "ellipse"):
        path = trajectories.make(name, tilted, 9)
        np.testing.assert_allclose(path.pose[:, 2, 0], 0, atol=1e-6)
