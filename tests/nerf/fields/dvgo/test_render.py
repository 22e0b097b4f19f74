"""That rays stop where they are opaque, that nothing is lost by it, and that memory does not grow with the picture."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.nerf.fields.dvgo import render as dvgo_render
from jaxhw.nerf.fields.dvgo import stages
from jaxhw.nerf.fields.dvgo.march import live_blocks
from jaxhw.nerf.fields.dvgo.space import Rays
from jaxhw.nerf.networks import voxel_grid as grids
from jaxhw.nerf.rendering import renderer as render
from tests.nerf.fields.dvgo.test_field import RAYS, field, plain, ring, started


@pytest.fixture(scope="module")
def setting():
    """A fine field, opaque nearly everywhere; rays towards the middle."""
    f = started(field())
    params, state = f.start
    params, state = stages.grow(f, {**params, "density": params["density"] + 20.0}, state, "fine")
    rng = np.random.default_rng(0)
    params["density"] = rng.normal(size=params["density"].shape).astype(np.float32) * 2 - float(state["shift"]) - 1
    params["features"] = rng.normal(size=params["features"].shape).astype(np.float32)
    origins = ring().pose[rng.integers(12, size=RAYS), :, 3]
    directions = -origins + rng.normal(size=(RAYS, 3)) * 0.3
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rays = jnp.asarray(origins), jnp.asarray(directions, jnp.float32)
    return f, *jax.tree.map(jnp.asarray, (params, state)), rays


def test_without_a_threshold_it_is_the_sum_over_all_samples(setting):
    f, params, state, rays = setting
    f = dataclasses.replace(f, fine=dataclasses.replace(f.fine, threshold=0.0))
    wanted = plain(f, params, state, rays, jnp.full(RAYS, 0.5))
    for found, value in zip(jax.jit(f.render)(params, state, *rays, jnp.ones(3)), wanted, strict=True):
        np.testing.assert_allclose(found, value, atol=2e-5)


def test_opaque_rays_stop(setting, monkeypatch):
    """Blocks that are looked at: up to the first with a sample in a thick medium, all that are live in a thin one."""
    f, params, state, rays = setting
    rays = jax.tree.map(lambda a: a[:16], rays)
    looks, block = [], dvgo_render._block
    monkeypatch.setattr(dvgo_render, "_block", lambda *a: (looks.append(int(a[-1].sum())), block(*a))[1])

    def looked_at(density):
        looks.clear()
        with jax.disable_jit():
            f.render({**params, "density": 0 * params["density"] + density}, state, *rays, jnp.ones(3))
        return sum(looks)

    space = f.space(params, state)
    through = Rays.through(space, *rays, f.near, f.far, jnp.full(16, 0.5))
    live = np.asarray(live_blocks(space, state["cells"], through))
    _, coordinates, inside = through.at(space, jnp.broadcast_to(jnp.arange(space.count) * 1.0, (16, space.count)))
    filled = np.asarray(grids.lookup(state["mask"], coordinates) & inside).reshape(16, -1, 8).any(-1)
    up_to_first = np.cumsum(filled, 1) - filled == 0
    thick, thin = looked_at(20.0), looked_at(-20.0)
    assert thick == (live & up_to_first).sum() and thin == live.sum()
    assert thick < thin / 2


def test_memory_does_not_grow_with_the_picture(setting):
    f, params, state, _ = setting
    variables = {"params": params, "model_state": state}
    renderer = render.Renderer(f, meshes.make_mesh(1), np.ones(3), chunk=64)

    def temporary(size):
        camera = jax.tree.map(lambda a: np.asarray(a, np.float32), ring().resized(size, size)[0])
        compiled = renderer._render.lower(variables, camera, np.arange(size * size, dtype=np.int32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = temporary(16), temporary(64)
    pictures = 5 * 4 * (64 * 64 - 16 * 16)  # bytes of colours, depth and opacity
    assert large - small < 2 * pictures
