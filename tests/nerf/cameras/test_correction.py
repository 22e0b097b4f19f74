"""Corrected cameras against rays worked out by hand; finite gradients; the penalty; mistakes in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxhw.errors import UserError
from jaxhw.nerf.cameras import cameras as cams
from jaxhw.nerf.cameras import correction, preconditioning
from jaxhw.nerf.cameras.correction import Correction, Options
from tests.nerf.cameras.test_cameras import LENSES, camera, random_pose

ALL = {"refine": "SO3xR3", "focal": True, "distortion": True}


def cameras(model="OPENCV", count=4):
    several = [camera(model, random_pose(i)) for i in range(count)]
    return jax.tree.map(lambda *a: np.concatenate(a), *several)


def rays_of(cameras, seed=0, count=40):
    rng = np.random.default_rng(seed)
    index = rng.integers(len(cameras), size=count)
    pixels = rng.uniform(4, 40, (count, 2)).astype(np.float32)
    return index, pixels, cams.generate_rays(jax.tree.map(jnp.asarray, cameras), index, pixels)


@pytest.mark.parametrize("refine", ["SO3xR3", "SE3"])
def test_rays_are_moved_on_the_world_s_side(refine):
    """nerfstudio's: origin + t and R direction, with the rotation not about the world's origin but the camera."""
    given = cameras()
    rows = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32) * 0.3
    made = Correction(Options(refine=refine), "OPENCV")
    index, pixels, before = rays_of(given)
    after = cams.generate_rays(made.apply(given, jnp.asarray(rows)), index, pixels)
    turned = Rotation.from_rotvec(rows[index, 3:]).apply(before.directions)
    np.testing.assert_allclose(after.directions, turned, atol=2e-6)
    if refine == "SO3xR3":
        np.testing.assert_allclose(after.origins, before.origins + rows[index, :3], atol=1e-6)


def test_a_quarter_turn_by_hand():
    """A camera at (1, 2, 3) that looks along z turns about the world's y axis: it looks along x, from (1, 2, 3.5)."""
    one = camera("PINHOLE", np.concatenate([np.eye(3), [[1.0], [2], [3]]], 1))
    rows = jnp.array([[0, 0, 0.5, 0, np.pi / 2, 0]], jnp.float32)
    turned = Correction(Options(refine="SO3xR3"), "PINHOLE").apply(one, rows)[0]
    origin, direction = cams.rays_through(turned, one.centre[0])
    np.testing.assert_allclose(origin, [1, 2, 3.5], atol=1e-6)
    np.testing.assert_allclose(direction, [1, 0, 0], atol=1e-6)


def test_focal_lengths_are_relative_and_coefficients_are_added():
    given = cameras("RADIAL")
    made = Correction(Options(**ALL), "RADIAL")
    assert made.size == 9
    rows = np.zeros((4, 9), np.float32)
    rows[:, 6], rows[:, 7:] = np.log(1.1), [0.01, -0.02]
    after = made.apply(given, jnp.asarray(rows))
    np.testing.assert_allclose(after.focal, 1.1 * given.focal, rtol=1e-6)
    np.testing.assert_allclose(after.distortion, given.distortion + np.float32([0.01, -0.02, 0, 0]), atol=1e-7)
    np.testing.assert_array_equal(after.pose, given.pose)


def test_a_pinhole_camera_gets_two_coefficients():
    made = Correction(Options(refine="SE3", distortion=True), "PINHOLE")
    after = made.apply(cameras("PINHOLE"), jnp.zeros((4, 8)).at[:, 6].set(0.1))
    assert after.model == "RADIAL" and made.size == 8
    np.testing.assert_allclose(after.distortion, np.tile(np.float32([0.1, 0, 0, 0]), (4, 1)))


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("refine", ["SO3xR3", "SE3"])
@pytest.mark.parametrize("model", LENSES)
def test_gradients_are_finite_at_zero_where_nothing_moves(model, refine, preconditioned):
    given = cameras(model)
    made = Correction(Options(**ALL | {"refine": refine}), model)
    if preconditioned:
        made = preconditioning.preconditioned(made, given, 0.5, 10.0)
    index, pixels, before = rays_of(given)
    pixels[0] = given.centre[0]  # the optical axis, where a fisheye's angles have no direction

    def loss(rows):
        rays = cams.generate_rays(made.apply(given, rows), index, pixels)
        weights = jnp.arange(len(index) * 3.0).reshape(-1, 3)
        return (rays.directions * weights + rays.origins**2).sum() + made.penalty(rows)

    rows = jnp.asarray(made.start(4))
    gradient = jax.jit(jax.grad(loss))(rows)
    assert gradient.shape == (4, made.size) and np.isfinite(gradient).all() and (np.abs(gradient).max(0) > 0).all()
    after = cams.generate_rays(made.apply(given, rows), *rays_of(given)[:2])
    np.testing.assert_allclose(after.directions, before.directions, atol=1e-6)
    np.testing.assert_array_equal(after.origins, before.origins)


@pytest.mark.parametrize("model", ["OPENCV", "OPENCV_FISHEYE"])
def test_the_gradient_through_the_distortion_is_that_of_finite_differences(model):
    one = jax.tree.map(jnp.asarray, camera(model)[0])
    pixels = np.random.default_rng(0).uniform(8, 40, (30, 2)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(30, 3))

    def loss(k, f):
        return (cams.unproject(one.replace(distortion=k, focal=f), pixels) * weights).sum()

    with jax.enable_x64(True):
        at = jnp.concatenate([jnp.asarray(one.distortion, jnp.float64), jnp.asarray(one.focal, jnp.float64)])
        whole = lambda at: loss(at[:4], at[4:])
        found = jax.grad(whole)(at)
        for i, h in enumerate([1e-6] * 4 + [1e-4] * 2):
            step = jnp.zeros(6).at[i].set(h)
            slope = (whole(at + step) - whole(at - step)) / (2 * h)
            np.testing.assert_allclose(found[i], slope, rtol=1e-4, atol=1e-6)


def test_the_penalty_is_the_mean_of_plain_norms():
    made = Correction(Options(refine="SO3xR3"), "PINHOLE")
    rows = jnp.array([[3.0, 0, 4, 0, 0, 0], [0, 0, 0, 0, 0.6, 0.8]])
    np.testing.assert_allclose(made.penalty(rows), 1e-2 * 2.5 + 1e-3 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(made.penalty)(jnp.zeros((2, 6))), 0)
    numbers = made.metrics(rows)
    np.testing.assert_allclose(numbers["camera_degrees"], np.degrees(0.5), rtol=1e-6)
    np.testing.assert_allclose(numbers["camera_translation"], 2.5, rtol=1e-6)


@pytest.mark.parametrize("model", LENSES)
def test_preconditioned_coordinates_move_pixels_alike(model):
    """CamP: with J the pixels' derivative and P = (J^T J + damping)^(-1/2), P^T (J^T J + damping) P is the identity."""
    given, plain = cameras(model), Correction(Options(**ALL), model)
    square = np.asarray(preconditioning.square_jacobians(plain, given, 0.5, 10.0), np.float64)
    made = preconditioning.preconditioned(plain, given, 0.5, 10.0)
    diagonal = np.diagonal(square, axis1=1, axis2=2)
    damped = square + np.maximum(1e-8, 0.1 * diagonal)[:, :, None] * np.eye(made.size)
    p = made.precondition.astype(np.float64)
    np.testing.assert_allclose(p.transpose(0, 2, 1) @ damped @ p, np.tile(np.eye(made.size), (4, 1, 1)), atol=2e-3)
    rows = np.random.default_rng(0).normal(size=(4, made.size)).astype(np.float32)
    np.testing.assert_allclose(made.learnt(np.asarray(made.physical(rows))), rows, atol=2e-3)
    # It takes no more than the camera itself: the same among others.
    alone = preconditioning.preconditioned(plain, given[2:3], 0.5, 10.0)
    np.testing.assert_allclose(alone.precondition[0], made.precondition[2], rtol=1e-3, atol=1e-4)


def test_the_jacobian_is_that_of_projected_points():
    """By finite differences of where a point lands, for the focal length of a pinhole camera by hand."""
    given = camera("PINHOLE", np.eye(3, 4))
    made = Correction(Options(refine="SO3xR3", focal=True), "PINHOLE")
    square = np.asarray(preconditioning.square_jacobians(made, given, 1.0, 4.0))[0]
    shares = np.random.default_rng(0).uniform(size=(preconditioning.POINTS, 3)).astype(np.float32)
    away = (shares[:, :2] * given.size[0] - given.centre[0]) / given.size[0].max()
    np.testing.assert_allclose(square[6, 6], (away**2).sum(1).mean(), rtol=1e-4)  # d pixel / d log f = pixel - centre


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"refine": "SO3"}, "config.cameras.refine='SO3' must be one of off, SO3xR3, SE3"),
        ({"perturb": (1.0,)}, "config.cameras.perturb=.1.0,. must be a tuple of 2 numbers, each of at least 0"),
        ({"perturb": (1.0, -0.1)}, "config.cameras.perturb=.1.0, -0.1. must be a tuple of 2 numbers, each of at least"),
        ({"focal": True}, "config.cameras.focal needs config.cameras.refine=SO3xR3 or SE3"),
        ({"schedule": "onecycle"}, "config.cameras.schedule='onecycle' must be one of constant,"),
    ],
)
def test_mistakes_are_one_line(values, message):
    with pytest.raises(UserError, match=message):
        correction.read(values)
