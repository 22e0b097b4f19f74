import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import image_rays
from jaxhw.nerf.scenes import demo
from jaxhw.nerf.scenes import scene as scenes


@pytest.fixture(scope="module")
def scene():
    return scenes.load("demo", downscale=8)


def march(origin, direction, inside, steps=400000, far=6.0):
    """First distance at which a point along the ray is in `inside`, by brute force."""
    t = np.linspace(0, far, steps)
    found = inside(origin + t[:, None] * direction)
    return t[found.argmax()] if found.any() else np.inf


def in_any_solid(p):
    """The four solids once more, as conditions on points [n, 3]."""
    plate = (np.hypot(p[:, 0], p[:, 1]) < 1.25) & (np.abs(p[:, 2] + 0.5) < 0.06)
    ball = np.linalg.norm(p - [-0.45, 0.3, -0.02], axis=1) < 0.42
    q = p - [0.5, 0.35, -0.09]
    c, s = np.cos(0.5), np.sin(0.5)
    x, y = c * q[:, 0] + s * q[:, 1], -s * q[:, 0] + c * q[:, 1]
    box = (np.abs(x) < 0.33) & (np.abs(y) < 0.33) & (np.abs(q[:, 2]) < 0.35)
    pillar = (np.hypot(p[:, 0] - 0.1, p[:, 1] + 0.6) < 0.2) & (np.abs(p[:, 2] - 0.03) < 0.47)
    return plate | ball | box | pillar


def test_rays_stop_at_the_first_surface():
    cameras = demo.make_cameras(9)
    rays = image_rays(cameras[7])
    rays = [np.asarray(a, np.float64)[::2] for a in (rays.origins, rays.directions)]
    t, normal, _ = (np.asarray(a) for a in demo._nearest(*(np.float32(a.T) for a in rays)))
    expected = np.array([march(o, d, in_any_solid) for o, d in zip(*rays, strict=True)])
    assert 5 < np.isfinite(expected).sum() < len(expected)
    np.testing.assert_allclose(t, expected, atol=1e-4)
    hit = np.isfinite(t)
    np.testing.assert_allclose(np.linalg.norm(normal[:, hit], axis=0), 1, atol=1e-4)
    assert ((normal[:, hit].T * rays[1][hit]).sum(1) < 0).all()  # surfaces face the camera


def test_pictures(scene):
    assert scene.pictures.size.tolist() == [[32, 32]] * 76 == scene.cameras.size.tolist()
    images = scene.pictures.table.reshape(76, 32, 32, 4)
    assert images.dtype == np.uint8 and scene.pictures.kept is None
    assert [len(scene.split[name]) for name in ("train", "val", "test")] == [60, 4, 12]
    alpha = images[..., 3]
    assert (alpha[:, 0, 0] == 0).all() and (alpha[:, 16, 16] == 255).all()
    assert 0 < ((alpha > 0) & (alpha < 255)).mean() < 0.2
    assert images[..., :3][alpha == 255].std(0).min() > 20  # it is textured


def test_cameras_look_at_the_middle_from_blenders_distance(scene):
    pose = scene.cameras.pose
    np.testing.assert_allclose(np.linalg.norm(pose[:, :, 3], axis=1), demo.DISTANCE, rtol=1e-5)
    np.testing.assert_allclose(pose[:, :, 2], -pose[:, :, 3] / demo.DISTANCE, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(pose[:, :, :3]), 1, atol=1e-5)
    assert (pose[:, 2, 1] < 0).all() and (np.abs(pose[:, 2, 0]) < 1e-6).all()  # upright
    nearest = np.linalg.norm(pose[60:, None, :, 3] - pose[None, :60, :, 3], axis=-1).min(1)
    assert nearest.min() > 0.01  # no held-out camera is a training camera


def test_bounds_hold_all_solids(scene):
    points = np.random.default_rng(0).uniform(-2, 2, (200_000, 3))
    solid = points[in_any_solid(points)]
    assert len(solid) > 1000 and (solid > scene.bounds[0]).all() and (solid < scene.bounds[1]).all()


def test_any_size_that_leaves_a_pixel():
    with pytest.raises(UserError, match="downscale"):
        scenes.load("demo", downscale=300)
