"""Early ray termination: rays stop where they are opaque, nothing is lost by it; memory does not grow with pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.dvgo import render
from jaxhw.nerf.fields.dvgo.march import live_blocks
from jaxhw.nerf.fields.dvgo.space import Segments
from jaxhw.nerf.networks import voxel_grid
from jaxhw.nerf.rendering.renderer import Renderer
from tests.nerf.fields.dvgo.made import RAYS, field, grid, grown, ring, started, with_density, with_stage
from tests.nerf.fields.dvgo.test_field import plain


@pytest.fixture(scope="module")
def opaque():
    """A fine field, opaque nearly everywhere; rays towards the middle."""
    f = field()
    variables = started(f)
    params = variables.params
    variables = grown(f, variables.replace(params=params.replace(density=params.density + 20.0)), "fine")
    params, rng = variables.params, np.random.default_rng(0)
    density = rng.normal(size=params.density.shape).astype(np.float32) * 2 - float(variables.model_state.shift) - 1
    features = rng.normal(size=params.features.shape).astype(np.float32)
    variables = variables.replace(params=params.replace(density=density, features=features))
    origins = ring().pose[rng.integers(12, size=RAYS), :, 3]
    directions = -origins + rng.normal(size=(RAYS, 3)) * 0.3
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rays = Rays(jnp.asarray(origins), jnp.asarray(directions, jnp.float32), jnp.full(RAYS, -1))
    return f, jax.tree.map(jnp.asarray, variables), rays


def test_without_a_threshold_it_is_the_sum_over_all_samples(opaque):
    f, variables, rays = opaque
    f = with_stage(f, "fine", threshold=0.0)
    wanted = plain(f, variables, rays, jnp.full(RAYS, 0.5))
    found = jax.jit(f.render)(variables, rays, jnp.ones(3))
    for a, b in zip((found.colour, found.depth, found.opacity), wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_opaque_rays_stop(opaque, monkeypatch):
    """Blocks that are computed: up to the first with a sample in a thick medium, all that are live in a thin one."""
    f, variables, rays = opaque
    rays, counts, block = rays[:16], [], render._block
    count = lambda real: counts.append(int(real.sum()))
    monkeypatch.setattr(render, "_block", lambda *a: (jax.debug.callback(count, a[-1]), block(*a))[1])
    rendered = jax.jit(lambda variables: f.render(variables, rays, jnp.ones(3)))

    def computed(density):
        counts.clear()
        rendered(with_density(variables, density))
        jax.effects_barrier()
        return sum(counts)

    space, state = grid(f, variables).space, variables.model_state
    segments = Segments.through(space, rays, f.setting.near, f.setting.far, jnp.full(16, 0.5))
    live = np.asarray(live_blocks(space, state.cells, segments))
    _, coordinates, inside = segments.at(space, jnp.broadcast_to(jnp.arange(space.count) * 1.0, (16, space.count)))
    filled = np.asarray(voxel_grid.nearest(state.mask, coordinates) & inside).reshape(16, -1, 8).any(-1)
    up_to_first = np.cumsum(filled, 1) - filled == 0
    thick, thin = computed(20.0), computed(-20.0)
    assert thick == (live & up_to_first).sum() and thin == live.sum()
    assert thick < thin / 2


def test_memory_does_not_grow_with_the_picture(opaque):
    f, variables, _ = opaque
    renderer = Renderer(f.render, meshes.make_mesh(1), np.ones(3), chunk=64)

    def temporary(size):
        camera = jax.tree.map(np.asarray, ring().resized((size, size))[0])
        compiled = renderer._render.lower(variables, camera, np.arange(size * size, dtype=np.int32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = temporary(16), temporary(64)
    pictures = 5 * 4 * (64 * 64 - 16 * 16)  # bytes of colours, depth and opacity
    assert large - small < 2 * pictures
