"""Samples of rays through a box and through contracted space; which of them the march keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.dvgo import march
from jaxhw.nerf.fields.dvgo.space import Box, Contracted, Segments
from jaxhw.nerf.networks import voxel_grid
from jaxhw.nerf.networks.contraction import contract, expand

RAYS = 48
SPACES = {
    "box": Box(jnp.array([[-1.0, -1.0, -0.5], [1.0, 1.5, 1.0]]), (14, 17, 10), 0.5),
    "contracted": Contracted(jnp.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), (25, 25, 25), 0.5),
}


@pytest.fixture(scope="module", params=SPACES)
def setting(request):
    """A space, rays (some miss the box), a mask, and which of all samples are live: [r, count]."""
    space, rng = SPACES[request.param], np.random.default_rng(0)
    origins = rng.normal(size=(RAYS, 3))
    origins *= (3.0 if request.param == "box" else 0.8) / np.linalg.norm(origins, axis=1, keepdims=True)
    directions = -origins + rng.normal(size=(RAYS, 3)) * 0.8
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    mask = rng.random(space.shape) < 0.5
    mask[space.shape[0] // 3 :] = False  # free space for the test of blocks to leave out
    mask = jnp.asarray(mask)
    rays = Rays(*(jnp.asarray(a, jnp.float32) for a in (origins, directions)), jnp.full(RAYS, -1))
    rays = Segments.through(space, rays, 0.1, 100.0, jnp.asarray(rng.random(RAYS), jnp.float32))
    everything = jnp.broadcast_to(jnp.arange(space.count) * 1.0, (RAYS, space.count))
    distance, coordinates, inside = rays.at(space, everything)
    return space, rays, mask, np.asarray(voxel_grid.nearest(mask, coordinates) & inside), np.asarray(distance)


def one(origin, direction):
    """One ray."""
    return Rays(jnp.array([origin]), jnp.array([direction]), jnp.full(1, -1))


MARCH = jax.jit(march.march, static_argnums=(4, 5))


def test_every_live_sample_is_kept_in_order(setting):
    space, rays, mask, live, distance = setting
    cells = voxel_grid.coarsen(mask, space.reach)
    blocks = RAYS * space.count // 8
    samples = MARCH(space, mask, cells, rays, blocks, live.size)
    n = live.sum()
    assert 50 < n < live.size / 3
    ray, number = np.nonzero(live)
    np.testing.assert_array_equal(samples.ray[:n], ray)
    np.testing.assert_array_equal(samples.ray[n:], RAYS)
    np.testing.assert_allclose(samples.number[:n], number + np.asarray(rays.offset)[ray], rtol=1e-6)
    np.testing.assert_allclose(samples.distance[:n], distance[live], rtol=1e-5)
    np.testing.assert_array_equal(samples.slot[:n], np.cumsum(live, 1)[live] - 1)
    assert samples.fitting.min() == RAYS
    assert march.live_blocks(space, cells, rays).mean() < 0.9


@pytest.mark.parametrize("full", ["blocks", "samples"])
def test_rays_that_do_not_fit_are_counted(setting, full):
    """All rays before `complete` have all their samples."""
    space, rays, mask, live, _ = setting
    blocks = RAYS * space.count // 8
    sizes = (blocks, int(live.sum()) // 2) if full == "samples" else (int(live.any(1).sum()) * 2, live.size)
    samples = MARCH(space, mask, voxel_grid.coarsen(mask, space.reach), rays, *sizes)
    complete = int(samples.fitting.min())
    assert 0 < complete < RAYS
    found = np.bincount(np.asarray(samples.ray), minlength=RAYS + 1)[:complete]
    np.testing.assert_array_equal(found, live.sum(1)[:complete])


def test_samples_of_a_box_are_a_stride_apart_and_span_it():
    space = SPACES["box"]
    rays = Segments.through(space, one([0.0, 0.0, -3.0], [0.0, 0.0, 1.0]), 0.0, 9.0, jnp.zeros(1))
    np.testing.assert_allclose([rays.start[0], rays.stop[0]], [2.5, 4.0])
    t, coordinates, inside = rays.at(space, jnp.arange(space.count)[None] * 1.0)
    voxel = np.prod(np.array([2, 2.5, 1.5]) / [13, 16, 9]) ** (1 / 3)
    np.testing.assert_allclose(np.diff(t[0]), voxel / 2, rtol=1e-4)
    assert inside.sum() == int(1.5 / (voxel / 2)) + 1
    np.testing.assert_allclose(coordinates[0, 0], [6.5, 6.4, 0], atol=1e-5)


def test_a_ray_beside_the_box_has_no_sample():
    space = SPACES["box"]
    rays = Segments.through(space, one([5.0, 0.0, -3.0], [0.0, 0.0, 1.0]), 0.0, 9.0, jnp.zeros(1))
    assert not rays.at(space, jnp.arange(space.count)[None] * 1.0)[2].any()


def test_contraction():
    """The cube stays, infinity is at 1 + shell, along each ray from the middle the order is kept; gradients are
    finite.
    """
    x = np.random.default_rng(0).normal(size=(100, 3)) * 3
    inside = np.abs(x).max(1) <= 1
    y = np.asarray(contract(jnp.asarray(x), 0.2))
    np.testing.assert_allclose(y[inside], x[inside], rtol=1e-6)
    norm = np.abs(x[~inside]).max(1)
    np.testing.assert_allclose(np.abs(y[~inside]).max(1), 1.2 - 0.2 / norm, rtol=1e-5)
    np.testing.assert_allclose(contract(jnp.array([0.0, -1e9, 0.0]), 0.2), [0, -1.2, 0], rtol=1e-5)
    assert jnp.isfinite(jax.grad(lambda x: contract(x, 0.2).sum())(jnp.zeros(3))).all()


def test_contracted_samples_reach_far_and_their_lengths_are_what_they_cover():
    space = SPACES["contracted"]
    rays = Segments.through(space, one([0.0, 0.0, 0.0], [0.0, 1.0, 0.0]), 0.0, 1e4, jnp.full(1, 0.5))
    number = jnp.arange(2 * space.inner) * 1.0
    t, _, _ = rays.at(space, number[None])
    assert t[0, -1] > 50 and (np.diff(t[0]) > 0).all()
    length = space.lengths(
        *(jnp.repeat(a, number.size, 0) for a in (rays.origins, rays.directions, rays.start)), number + 0.5
    )
    ends = [
        space.locate(jnp.array([0.0, float(space.distance(0.0, jnp.array(k))), 0.0]))[1] for k in (0.0, number.size)
    ]
    np.testing.assert_allclose(length.sum() * space.stride, ends[1] - ends[0], rtol=2e-2)


def test_expanding_inverts_the_contraction():
    x = np.random.default_rng(0).normal(size=(100, 3)) * 3
    np.testing.assert_allclose(expand(np.asarray(contract(jnp.asarray(x), 0.2)), 0.2), x, rtol=2e-3)
