"""Exponential maps against scipy's, and their gradients where all corrections begin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from jaxhw.nerf.cameras import motion

RNG = np.random.default_rng(0)
UNIT = RNG.normal(size=(5, 3))
UNIT /= np.linalg.norm(UNIT, axis=1, keepdims=True)
ANGLES = [1e-7, 1e-3, 0.009, 0.011, 0.099, 0.101, 1.0, 3.1]


def twist_matrix(linear, logs):
    x, y, z = logs
    return np.block([[np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.array(linear)[:, None]], [np.zeros((1, 4))]])


@pytest.mark.parametrize("angle", ANGLES)
def test_rotations_are_scipys(angle):
    logs = (UNIT * angle).astype(np.float32)
    np.testing.assert_allclose(motion.rotations(logs), Rotation.from_rotvec(logs).as_matrix(), atol=5e-7)


@pytest.mark.parametrize("angle", ANGLES)
def test_motions_are_the_matrix_exponential(angle):
    linear, logs = RNG.normal(size=(5, 3)).astype(np.float32), (UNIT * angle).astype(np.float32)
    rotation, translation = motion.motions(linear, logs)
    wanted = np.stack([expm(twist_matrix(u, w)) for u, w in zip(linear.astype(float), logs.astype(float), strict=True)])
    np.testing.assert_allclose(rotation, wanted[:, :3, :3], atol=2e-6)
    np.testing.assert_allclose(translation, wanted[:, :3, 3], atol=5e-6)


def test_nothing_moves_at_zero_and_the_gradient_there_is_the_generators():
    zero = jnp.zeros((1, 3))
    np.testing.assert_array_equal(motion.rotations(zero)[0], np.eye(3))
    rotation, translation = motion.motions(zero, zero)
    np.testing.assert_array_equal(rotation[0], np.eye(3))
    np.testing.assert_array_equal(translation[0], 0)
    generators = np.stack([twist_matrix(np.zeros(3), axis)[:3, :3] for axis in np.eye(3)], -1)
    for rotations in (motion.rotations, lambda logs: motion.motions(zero, logs)[0]):
        np.testing.assert_allclose(jax.jacrev(rotations)(zero)[0, :, :, 0], generators, atol=2e-5)
    to_linear, to_logs = jax.jacrev(lambda u, w: motion.motions(u, w)[1], (0, 1))(zero, zero)
    np.testing.assert_allclose(to_linear[0, :, 0], np.eye(3), atol=1e-6)
    np.testing.assert_array_equal(to_logs, 0)


def test_the_safe_norm_has_no_gradient_at_zero():
    rows = jnp.array([[0.0, 0, 0], [3.0, 0, 4.0]])
    np.testing.assert_array_equal(motion.safe_norm(rows), [0, 5])
    np.testing.assert_allclose(jax.grad(lambda r: motion.safe_norm(r).sum())(rows), [[0, 0, 0], [0.6, 0, 0.8]])
