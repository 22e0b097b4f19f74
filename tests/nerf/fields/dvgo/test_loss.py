"""The terms of the loss that grids bring, and what a step tells of its buckets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.dvgo import loss as dvgo_loss
from jaxhw.nerf.fields.dvgo.march import Samples
from jaxhw.nerf.fields.dvgo.space import Box
from jaxhw.nerf.fields.field import Target
from jaxhw.task import Context
from tests.nerf.fields.dvgo.made import field, ring, started, with_stage


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    camera = rng.integers(12, size=16)
    origins = ring().pose[camera, :, 3]
    directions = -origins / np.linalg.norm(origins, axis=1, keepdims=True)
    rays = Rays(jnp.asarray(origins), jnp.asarray(directions), jnp.asarray(camera))
    return rays, Target(jnp.zeros((16, 3)), jnp.ones((16, 3)))


def loss_of(f, batch):
    def loss(variables, step):
        context = Context(step, step / f.setting.steps, jax.random.key(0), meshes.make_mesh(1))
        return f.loss(variables.params, variables.model_state, *batch, context)

    return jax.jit(loss)


def test_total_variation_is_of_the_density_itself_and_ends_in_the_middle_of_the_run(batch):
    """In the coarse stage of a bounded scene, whose parameters are density / rate."""
    f = field(total_variation=(0.5, 0.25))
    variables, rng = started(f), np.random.default_rng(0)
    params = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), variables.params)
    variables, state = variables.replace(params=params), variables.model_state
    loss = loss_of(f, batch)
    early, late = loss(variables, 49)[0], loss(variables, 50)[0]
    wanted = 0.0
    for values, weight in ((params.density * state.learning_rate, 0.5), (params.features, 0.25)):
        for column in values.T:
            full = np.where(state.rows >= 0, column[state.rows], np.nan)
            for axis in range(3):
                d = np.abs(np.diff(full, axis=axis))
                wanted += weight * np.nansum(np.where(d < 1, d * d / 2, d - 0.5)) / 6
    wanted *= max(state.mask.shape) / 128 / 16
    np.testing.assert_allclose(early - late, wanted, rtol=1e-3)


def test_the_distortion_loss_counts_distances_in_radii():
    """By its definition, over all pairs of a ray's samples; so it does not depend on the scene's unit."""
    t, weights = np.array([0.5, 1.0, 4.0]), np.array([[0.1, 0.6, 0.2]])
    zero = jnp.zeros(3, jnp.int32)

    def spread(unit):
        box = Box(jnp.array([[-2.0, -1, -1], [2.0, 1, 1]]) * unit, (9, 5, 5), 1.0)
        samples = Samples(zero, zero, jnp.asarray(t * unit), jnp.zeros((3, 3)), jnp.arange(3), 1)
        return dvgo_loss._distortion(samples, jnp.asarray(weights), box), box.count

    found, count = spread(1.0)
    s, w = t / 2 / (1 + t / 2), weights[0]
    wanted = (w[:, None] * w * np.abs(s[:, None] - s)).sum() + (w**2).sum() / count / 3
    np.testing.assert_allclose(found, [wanted], rtol=1e-5)
    np.testing.assert_allclose(spread(7.0)[0], found, rtol=1e-5)


def test_the_running_share_of_rays_left_out(batch):
    f = with_stage(field(), "coarse", samples=1.0)
    _, (new, numbers) = loss_of(f, batch)(started(f), 0)
    assert numbers["overflow"] > 0.5 and set(numbers) == set(f.metric_names)
    np.testing.assert_allclose(new.left_out, [0, 0.01 * numbers["overflow"], 0, 0], rtol=1e-5)
    roomy = field()
    _, (new, numbers) = loss_of(roomy, batch)(started(roomy), 0)
    np.testing.assert_array_equal(new.left_out, 0)


@pytest.mark.parametrize(("limit", "index"), [("blocks", 0), ("samples", 1), ("shaded", 2)])
def test_a_full_bucket_is_named(batch, limit, index):
    f = with_stage(field(), "coarse", **{limit: 1.0, "threshold": 0.0})
    _, (new, _) = loss_of(f, batch)(started(f), 0)
    assert np.argmax(new.left_out) == index
    assert f"raise config.model.coarse.{limit}=1" in f.warning(new.replace(left_out=50 * np.asarray(new.left_out)))


def test_rays_too_long_to_composite_are_told(batch):
    f = field(longest=2)
    _, (new, _) = loss_of(f, batch)(started(f), 0)
    assert "raise config.model.longest=2" in f.warning(new.replace(left_out=50 * np.asarray(new.left_out)))


def test_rays_that_show_something_where_nothing_can_be_learnt_are_told(batch):
    """A third of the rays meets no voxel; of these, those count whose pixel is not the background."""
    f = field()
    variables = started(f)
    rays, target = batch
    missing = jnp.arange(16) % 3 == 0
    rays = rays.replace(directions=jnp.where(missing[:, None], -rays.directions, rays.directions))
    colour = jnp.where((jnp.arange(16) == 3)[:, None], target.background, target.colour)
    _, (new, _) = loss_of(f, (rays, target.replace(colour=colour)))(variables, 0)
    np.testing.assert_allclose(new.unmet, 0.01 * 5 / 16, rtol=1e-5)
    assert f.warning(new) == ""
    told = f.warning(new.replace(unmet=np.float32(0.31)))
    assert (
        told.startswith("31% of the rays show something") and "least_cameras=3" in told and "coarse_steps" not in told
    )
