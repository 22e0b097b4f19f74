"""Grids of unbounded scenes; boxes with little or nothing in them; the terms of the loss that grids bring."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.nerf.fields.dvgo import stages
from jaxhw.nerf.fields.dvgo.march import Samples
from jaxhw.nerf.fields.dvgo.space import Box, Contracted
from jaxhw.nerf.networks import voxel_grid as grids
from tests.nerf.fields.dvgo.test_field import Setting, field, ring, started


def outwards():
    """The ring's cameras, each turned away from the middle."""
    cameras = ring(height=0.0)
    pose = cameras.pose.copy()
    pose[:, :, [0, 2]] *= -1
    return cameras.replace(pose=pose)


def vertices(state):
    """The contracted grid's vertices in units of its half edge, [v, 3]: what is outside 1 is the shell."""
    return 1.2 * (2 * grids.vertices(state["mask"].shape) - 1)[state["rows"].ravel() >= 0]


@pytest.fixture(scope="module")
def unbounded():
    """(field, its coarse parameters with a ball of radius 0.6 in the middle of the cube, state)."""
    f = started(field(shell=0.2, near=0.5, inherit=True), bounds=None)
    params, state = f.start
    ball = np.linalg.norm(vertices(state), axis=1) < 0.6
    return f, {**params, "density": np.where(ball, 20.0, -20.0)[:, None].astype(np.float32)}, state


def test_the_inner_cube_lies_around_the_origin_and_keeps_away_from_cameras(unbounded):
    f, _, state = unbounded
    np.testing.assert_allclose(state["box"], [[-3.0] * 3, [3.0] * 3], rtol=1e-6)
    points = 3 * stages._expand(vertices({**state, "rows": np.where(state["mask"], 1, -1)}), 0.2)
    assert (np.linalg.norm(points[:, None] - ring().pose[:, :, 3], axis=-1) >= 0.5).all()
    arc = ring()[np.arange(3)]
    half = stages.with_start(f, Setting(arc, None, {"train": np.arange(3)}), 0.0, 0.5).start[1]
    np.testing.assert_allclose(half["box"][1], 0.5 * np.abs(arc.pose[:, :, 3]).max(), rtol=1e-6)


def test_the_coarse_stage_of_an_unbounded_scene_has_plain_colours_and_all_voxels_learn_alike(unbounded):
    f, params, state = unbounded
    assert set(params) == {"density", "features"} and "rate" not in state
    space = f.space(params, state)
    assert isinstance(space, Contracted) and space.shape == (10, 10, 10)


def test_the_fine_grid_of_an_unbounded_scene_keeps_the_cube_and_inherits(unbounded):
    f, params, state = unbounded
    fine, new = stages.grow(f, params, {**state, "step": np.int32(40)}, "fine")
    np.testing.assert_array_equal(new["box"], state["box"])
    assert new["mask"].shape == (13, 13, 13) and new["step"] == 40 and "colour" in fine
    full = np.linalg.norm(1.2 * (2 * grids.vertices((13, 13, 13)) - 1), axis=1).reshape(13, 13, 13)
    assert new["mask"][full < 0.5].all() and not new["mask"][full > 1.35].any()
    middle = np.linalg.norm(vertices(new), axis=1) < 0.3
    assert (fine["density"][middle] > 1).all() and fine["density"].min() >= 0


def test_doubling_keeps_an_unbounded_field(unbounded):
    f, params, state = unbounded
    f = dataclasses.replace(f, decay=0.0)
    params, state = stages.grow(f, {**params, "density": params["density"] * 0 + 20}, state, "fine")
    slope = np.array([[1.0, -2.0, 0.5]]).T
    params = {**params, "density": (vertices(state) @ slope + 6).astype(np.float32)}
    grown, new = stages.grow(f, params, state, "double")
    assert new["mask"].shape == (16, 16, 16) and new["shift"] == state["shift"]
    inner = np.linalg.norm(vertices(new), axis=1) < 0.4
    assert inner.sum() > 30
    np.testing.assert_allclose(grown["density"][inner], vertices(new)[inner] @ slope + 6, atol=1e-4)


def test_a_box_that_no_camera_sees_is_one_line():
    f = field(near=0.1)
    with pytest.raises(UserError, match="nothing in it: no point is seen by 50% of the cameras"):
        stages.with_start(f, Setting(outwards(), None, {"train": np.arange(12)}), 0.5, 1.0)
    with pytest.raises(UserError, match=r"nothing in it: no point at least 0\.1 away .* by 3 of them"):
        bounds = np.array([[-1.0] * 3, [1.0] * 3], np.float32)
        stages.with_start(f, Setting(outwards(), bounds, {"train": np.arange(12)}), 0.0, 1.0)


def test_one_training_camera_is_enough_to_start():
    f = field(shell=0.2, near=0.1)
    state = stages.with_start(f, Setting(ring(), None, {"train": np.arange(1)}), 0.0, 1.0).start[1]
    assert state["mask"].any() and state["box"][1, 0] > 1


def test_a_single_opaque_vertex_has_a_box():
    f = started(field())
    params, state = f.start
    density = np.full_like(params["density"], -20.0)
    density[state["rows"][5, 5, 5]] = 20.0
    fine, new = stages.grow(f, {**params, "density": density / state["rate"]}, state, "fine")
    np.testing.assert_allclose(new["box"][1] - new["box"][0], 1.05 * 2 / (state["mask"].shape[0] - 1), rtol=1e-4)
    assert new["mask"].any() and np.isfinite(fine["density"]).all()


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    origins = ring().pose[rng.integers(12, size=16), :, 3]
    directions = -origins / np.linalg.norm(origins, axis=1, keepdims=True)
    return (jnp.asarray(origins), jnp.asarray(directions)), jnp.zeros((16, 3)), jnp.ones((16, 3))


def loss_of(f, batch):
    rays, colours, background = batch
    return jax.jit(lambda p, s: f.loss(p, s, rays, colours, background, jax.random.key(0), meshes.make_mesh(1)))


def test_total_variation_is_of_the_density_itself_and_ends_in_the_middle_of_the_run(batch):
    """In the coarse stage of a bounded scene, whose parameters are density / rate."""
    f = started(field(total_variation=(0.5, 0.25)))
    params, state = f.start
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=a.shape).astype(np.float32) for name, a in params.items()}
    loss = loss_of(f, batch)
    early, (new, _) = loss(params, {**state, "step": np.int32(49)})
    late, _ = loss(params, new)
    wanted = 0.0
    for values, weight in ((params["density"] * state["rate"], 0.5), (params["features"], 0.25)):
        for column in values.T:
            full = np.where(state["rows"] >= 0, column[state["rows"]], np.nan)
            for axis in range(3):
                d = np.abs(np.diff(full, axis=axis))
                wanted += weight * np.nansum(np.where(d < 1, d * d / 2, d - 0.5)) / 6
    wanted *= max(state["mask"].shape) / 128 / 16
    np.testing.assert_allclose(early - late, wanted, rtol=1e-3)


def test_the_distortion_loss_counts_distances_in_radii():
    """By its definition, over all pairs of a ray's samples; so it does not depend on the scene's unit."""
    t, weights = np.array([0.5, 1.0, 4.0]), np.array([[0.1, 0.6, 0.2]])
    zero = jnp.zeros(3, jnp.int32)

    def spread(unit):
        box = Box(jnp.array([[-2.0, -1, -1], [2.0, 1, 1]]) * unit, (9, 5, 5), 1.0)
        samples = Samples(zero, zero, jnp.asarray(t * unit), jnp.zeros((3, 3)), jnp.arange(3), 1)
        return field()._spread(samples, jnp.asarray(weights), box), box.count

    found, count = spread(1.0)
    s, w = t / 2 / (1 + t / 2), weights[0]
    wanted = (w[:, None] * w * np.abs(s[:, None] - s)).sum() + (w**2).sum() / count / 3
    np.testing.assert_allclose(found, [wanted], rtol=1e-5)
    np.testing.assert_allclose(spread(7.0)[0], found, rtol=1e-5)


def test_the_running_share_of_rays_left_out(batch):
    f = started(field(coarse=dataclasses.replace(field().coarse, samples=1.0)))
    _, (new, numbers) = loss_of(f, batch)(*f.start)
    assert numbers["overflow"] > 0.5
    np.testing.assert_allclose(new["overflow"], 0.01 * numbers["overflow"], rtol=1e-5)
