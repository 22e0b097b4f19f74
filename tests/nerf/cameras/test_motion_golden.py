"""Exponential maps, corrected rays and the penalty against nerfstudio 1.1.5's own numbers (tests/golden)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.cameras import motion
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.cameras.correction import Correction, Options

GOLDEN = Path(__file__).parents[2] / "golden" / "nerf_nerfacto.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file if name.startswith(("so3xr3", "se3", "camera"))}


def matrices(name, tangents):
    """[k, 3, 4] of tangents [k, 6], translation first."""
    if name == "se3":
        rotation, translation = motion.motions(tangents[:, :3], tangents[:, 3:])
    else:
        rotation, translation = motion.rotations(tangents[:, 3:]), tangents[:, :3]
    return jnp.concatenate([rotation, translation[..., None]], -1)


@pytest.mark.parametrize("name", ["so3xr3", "se3"])
def test_exponential_maps_and_their_gradients(golden, name):
    tangents = jnp.asarray(golden[f"{name}_tangents"])
    np.testing.assert_allclose(matrices(name, tangents), golden[f"{name}_matrices"], atol=1e-5)
    slope = jax.grad(lambda x: (matrices(name, x) * golden[f"{name}_cotangent"]).sum())(tangents)
    np.testing.assert_allclose(slope, golden[f"{name}_d_tangents"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("refine", ["SO3xR3", "SE3"])
def test_corrected_rays(golden, refine):
    """A ray is a camera of its own here, whose z axis is the ray's direction."""
    origins, directions = golden["camera_origins"], golden["camera_directions"]
    pose = np.zeros((len(origins), 3, 4), np.float32)
    pose[:, :, 2], pose[:, :, 3] = directions, origins
    ones = np.ones((len(origins), 2), np.float32)
    cameras = Cameras(pose, ones, ones, np.zeros((len(origins), 4), np.float32), ones.astype(np.int32))
    correction = Correction(Options(refine=refine), "PINHOLE")
    moved = correction.apply(cameras, jnp.asarray(golden["camera_deltas"][golden["camera_cameras"]]))
    name = f"camera_{refine.lower()}"
    np.testing.assert_allclose(moved.pose[:, :, 3], golden[f"{name}_origins"], atol=1e-5)
    np.testing.assert_allclose(moved.pose[:, :, 2], golden[f"{name}_directions"], atol=1e-5)


def test_the_penalty_and_its_gradient(golden):
    deltas, correction = jnp.asarray(golden["camera_deltas"]), Correction(Options(refine="SO3xR3"), "PINHOLE")
    np.testing.assert_allclose(correction.penalty(deltas), golden["camera_penalty"], rtol=1e-5)
    np.testing.assert_allclose(jax.grad(correction.penalty)(deltas), golden["camera_penalty_d"], atol=1e-6)
