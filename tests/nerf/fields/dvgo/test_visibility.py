"""What the cameras see of space."""

import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import rays_through
from jaxhw.nerf.fields.dvgo import stages, visibility
from tests.nerf.fields.dvgo.made import BOX, field, ring, started


def outwards():
    """The ring's cameras, each turned away from the middle."""
    cameras = ring(height=0.0)
    pose = cameras.pose.copy()
    pose[:, :, [0, 2]] *= -1
    return cameras.replace(pose=pose)


def test_counting_cameras_counts_frusta():
    cameras = ring(n=2, height=0.0)  # at x = 3 and -3, 53 degrees wide
    points = np.array([[0, 0, 0], [0, 1.4, 0], [0, 1.6, 0], [2.9, 0, 0], [3.5, 0, 0], [-2, 0.6, 0]], np.float32)
    np.testing.assert_array_equal(visibility.count_cameras(cameras, points, 0.5, 10.0), [2, 2, 0, 1, 1, 1])
    np.testing.assert_array_equal(visibility.count_cameras(cameras, points[:1], 0.5, 2.0), [0])


def test_cameras_of_several_sizes_see_as_far_as_their_pictures_go():
    """One camera of the two sees half as far up and down: its picture is the middle half of the other's."""
    cameras = ring(n=2, height=0.0)
    low = cameras.replace(
        size=np.array([[40, 40], [40, 20]], np.int32), centre=np.array([[20, 20], [20, 10]], np.float32)
    )
    points = np.array([[0, 0, 0], [0, 0, 1.2], [0, 1.2, 0]], np.float32)
    np.testing.assert_array_equal(visibility.count_cameras(cameras, points, 0.5, 10.0), [2, 2, 2])
    np.testing.assert_array_equal(visibility.count_cameras(low, points, 0.5, 10.0), [2, 1, 2])


def test_the_coarse_box_holds_all_frusta():
    box = started(field(bounds=None)).model_state.box
    np.testing.assert_allclose(box, visibility.frusta_box(ring(), 1.0, 6.0))
    assert (box[0, :2] < -3).all() and (box[1, :2] > 3).all()


def test_voxels_near_cameras_and_seen_by_few_are_masked():
    """The ring's cameras stand at a distance of 3.16; with near = 2.5 the corners of the box are too near."""
    variables = started(field(near=2.5))
    state = variables.model_state
    points = stages._points(state.box, state.mask.shape)
    distance = np.linalg.norm(points[:, None] - ring().pose[:, :, 3], axis=-1)
    mask = state.mask.ravel()
    assert not mask[(distance < 2.5).any(1)].any() and mask.any()
    seen = visibility.count_cameras(ring(), points, 2.5, 6.0)
    assert (seen[mask] >= 3).all() and mask[(seen >= 3) & (distance >= 2.5).all(1)].all()
    assert variables.params.density.shape == state.learning_rate.shape
    rate = np.maximum(seen[state.rows.ravel() >= 0] / seen.max(), 1e-6)
    np.testing.assert_allclose(state.learning_rate[:, 0], rate)


def test_a_box_that_no_camera_sees_is_one_line():
    with pytest.raises(UserError, match="nothing in it: no point is seen by 50% of the cameras"):
        started(field(outwards(), bounds=None, near=0.1, coverage=0.5))
    with pytest.raises(UserError, match=r"nothing in it: no point at least 0\.1 away .* by 3 of them"):
        started(field(outwards(), bounds=BOX, near=0.1))


def test_one_training_camera_is_enough_to_start():
    state = started(field(ring()[np.arange(1)], bounds=None, near=0.1, unbounded=True)).model_state
    assert state.mask.any() and state.box[1, 0] > 1


def test_a_voxel_that_fewer_cameras_see_can_be_learnt_if_asked_for():
    two = ring()[np.arange(2)]
    far_apart = ring()[np.array([0, 6])]  # they share the middle only
    cameras = far_apart.replace(focal=far_apart.focal * 4)
    assert started(field(two)).model_state.mask.any()  # as many as there are
    few, all_of_them = (started(field(cameras, least_cameras=least)).model_state.mask.sum() for least in (1, 2))
    assert few > 1.5 * all_of_them > 0


def fisheye(degrees=180.0, size=100):
    """Three cameras at one place that look along x, whose pictures' inscribed circle is so wide."""
    radius = np.radians(degrees / 2)
    cameras = ring(n=1, height=0.0)[np.zeros(3, int)]
    flat = np.ones((3, 2), np.float32)
    return cameras.replace(
        focal=flat * size / 2 / radius, centre=flat * size / 2, size=np.full((3, 2), size, np.int32),
        model="OPENCV_FISHEYE",
    )  # fmt: skip


@pytest.mark.parametrize(("angle", "seen"), [(0, 3), (70, 3), (89, 3), (95, 0)])
def test_a_fisheye_sees_as_far_off_its_axis_as_its_picture_does(angle, seen):
    """The camera is at x = 3 and looks along -x; points in the horizontal plane lie on the middle row."""
    a = np.radians(angle)
    point = np.array([[3 - 2 * np.cos(a), 2 * np.sin(a), 0]], np.float32)
    assert visibility.count_cameras(fisheye(), point, 0.1, 10.0) == seen
    assert visibility.count_cameras(fisheye(220.0), point, 0.1, 10.0) == 3


def test_a_distorted_picture_shows_what_its_rays_meet_and_nothing_that_folds_into_it():
    """Strong barrel distortion: beyond 58 degrees the polynomial comes back and would meet pixels again."""
    cameras = ring(n=3, height=0.0)
    cameras = cameras.replace(distortion=np.tile(np.float32([-0.13, 0, 0, 0]), (3, 1)), model="OPENCV")
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 40, (200, 2)).astype(np.float32)
    origins, directions = rays_through(cameras[0], pixels)
    count = lambda points: visibility.count_cameras(cameras[np.zeros(1, int)], np.asarray(points), 0.1, 10.0)
    assert (count(origins + 2 * directions) == 1).all()
    outside = np.array([[3 - np.cos(a), 0, np.sin(a)] for a in np.radians([40.0, 65, 70, 75, 80])], np.float32)
    assert (count(outside) == 0).all()
