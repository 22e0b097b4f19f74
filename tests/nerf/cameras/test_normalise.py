"""Nearly all cameras decide what a capture is about, how large it is and which way is up; a few are outvoted."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxhw.nerf.cameras.normalise import at_one_place, axes_are_parallel, centre_of, normalise, reach, up_direction

CENTRE, Z = np.array([3.0, -2.0, 5.0]), np.array([0.0, 0.0, 1.0])


def look_at(positions, target=CENTRE):
    z = target - positions
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    x = np.cross(z, Z)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(z, x), z, positions], 2)


def ring(n=40, height=1.0, arc=2 * np.pi):
    """[n, 3, 4] cameras 4 around the centre, `height` above it, looking at it."""
    azimuth = np.linspace(0, arc, n, endpoint=False)
    return look_at(CENTRE + np.stack([4 * np.cos(azimuth), 4 * np.sin(azimuth), np.full(n, height)], 1))


def turned(poses, degrees, axis, rows=slice(None)):
    """Some of the cameras turned about one of their own axes."""
    result = poses.copy()
    turn = Rotation.from_rotvec(np.radians(degrees) * np.eye(3)["xyz".index(axis)]).as_matrix()
    result[rows, :, :3] = poses[rows, :, :3] @ turn
    return result


def angle(a, b):
    return np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


@pytest.mark.parametrize("degrees", [90, 120, 180])
def test_a_camera_that_looks_away_is_outvoted(degrees):
    poses = turned(ring(), degrees, "y", [7])
    centre, astray = centre_of(poses)
    np.testing.assert_allclose(centre, CENTRE, atol=1e-9)
    assert np.flatnonzero(astray).tolist() == [7]


def test_many_cameras_that_look_away_are_a_room():
    poses = turned(ring(), 180, "y", slice(0, 40, 3))
    centre, astray = centre_of(poses)
    np.testing.assert_allclose(centre, poses[:, :, 3].mean(0), atol=1e-9)
    assert not astray.any()


def test_a_camera_far_away_does_not_shrink_the_others():
    poses = ring()
    poses[11, :, 3] = CENTRE + 10 * (poses[11, :, 3] - CENTRE)
    new = normalise(poses, Z)
    assert np.flatnonzero(new.far_off).tolist() == [11]
    assert np.abs(np.delete(new.poses, 11, 0)[:, :, 3]).max() == pytest.approx(1)
    assert np.abs(new.poses[11, :, 3]).max() > 9
    assert reach(new.poses[:, :, 3]) == pytest.approx(1)
    room = turned(poses, 180, "y")
    assert np.linalg.norm(centre_of(room)[0] - CENTRE - [0, 0, 1]) < 0.2  # not pulled towards it by a tenth of 40


def test_two_distances_of_many_cameras_are_both_inside():
    poses = ring()
    poses[::4, :, 3] = CENTRE + 10 * (poses[::4, :, 3] - CENTRE)
    new = normalise(poses, Z)
    assert not new.far_off.any() and np.abs(new.poses[:, :, 3]).max() == pytest.approx(1)


def test_of_few_cameras_none_is_odd():
    new = normalise(look_at(CENTRE + np.array([[4.0, 0, 0], [0, 4, 0], [40, 1, 3]])), Z)
    assert not new.far_off.any() and not new.astray.any()


def test_a_rolled_camera_does_not_tilt_the_horizon():
    poses = turned(ring(), 90, "z", [3])
    np.testing.assert_allclose(up_direction(poses), Z, atol=1e-9)


@pytest.mark.parametrize("height", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("roll", [90, -90])
def test_captures_on_their_side(height, roll):
    """All around at any pitch: down axes are level then, and the right axes stand."""
    assert angle(up_direction(turned(ring(height=height), roll, "z")), Z) < 1e-5


def test_a_level_ring_on_its_side_has_the_captures_up():
    poses = turned(ring(height=0.0), 90, "z")
    assert angle(up_direction(poses, Z), Z) < 1e-5 and angle(up_direction(poses, -Z), -Z) < 1e-5


def nadir():
    """[12, 3, 4] a flight with one heading, in rows 10 above the ground."""
    x, y = np.meshgrid(np.arange(4) * 5.0, np.arange(3) * 5.0)
    poses = np.tile(np.diag([1.0, -1, -1, 1])[:3], (12, 1, 1))
    poses[:, :, 3] = np.stack([x.ravel(), y.ravel(), np.full(12, 10.0)], 1)
    return poses


def test_a_flight_with_one_heading_looks_down():
    np.testing.assert_allclose(up_direction(nadir(), Z), Z, atol=1e-12)
    # a wall in COLMAP's frame, whose z is the first camera's forward axis, keeps the picture's top
    np.testing.assert_allclose(up_direction(nadir(), -Z), [0, 1, 0], atol=1e-12)


def noisy_wall(origin, degrees=0.3, seed=0):
    """[30, 3, 4] cameras in [0, 1]^2 before a wall along y, aimed with an error."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]), (30, 1, 1))
    turn = Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=(30, 3)) * 0.5).as_matrix()
    poses[:, :, :3] = turn @ poses[:, :, :3]
    poses[:, :, 3] = np.stack([rng.random(30), np.zeros(30), rng.random(30)], 1) + origin
    return poses


def test_parallel_cameras_do_not_depend_on_the_origin_or_on_their_aims():
    sizes = []
    for seed in range(5):
        for origin in (np.zeros(3), np.array([50.0, -20, 7])):
            poses = noisy_wall(origin, seed=seed)
            poses[:, :, 3] = noisy_wall(origin)[:, :, 3]  # only the aims differ
            assert axes_are_parallel(poses)
            new = normalise(poses, Z)
            sizes.append(np.cbrt(np.linalg.det(new.to_old[:3, :3])))
            assert (new.poses[:, 1, 3] < -0.9).all()  # the centre is in front of all
    np.testing.assert_allclose(sizes, sizes[0], rtol=0.02)


def test_the_depth_of_parallel_cameras_subject_is_taken_where_it_is_known():
    poses = noisy_wall(np.array([4.0, 5, 6]))
    centre, _ = centre_of(poses, depth=2.5)
    assert centre[1] == pytest.approx(7.5, abs=0.02)


def test_a_common_point_does_not_depend_on_the_origin():
    assert not axes_are_parallel(ring(arc=0.3))
    for origin in (np.zeros(3), np.array([1e4, -3e3, 0])):
        poses = ring(arc=0.3)
        poses[:, :, 3] += origin
        np.testing.assert_allclose(centre_of(poses)[0], CENTRE + origin, atol=1e-6)


def test_all_cameras_at_one_place():
    poses = ring()
    assert not at_one_place(poses)
    poses[:, :, 3] = CENTRE
    assert at_one_place(poses)
    poses[:, :, 3] += 1e6
    assert at_one_place(poses)
    poses[3, 0, 3] += 1  # a metre apart in a national grid
    assert not at_one_place(poses)
