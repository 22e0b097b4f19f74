"""The gradient of DVGO's loss with respect to the rays, by which cameras are refined: against finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.dvgo.grid import CoarseState
from jaxhw.nerf.fields.field import Target
from jaxhw.nerf.networks import voxel_grid
from jaxhw.state import Variables
from jaxhw.task import Context
from tests.nerf.fields.dvgo.made import field, grid, grown, started, with_density, with_stage

RAYS = 16


@pytest.fixture(scope="module", params=["coarse", "fine", "unbounded"])
def smooth(request):
    """A field whose raw values are planes in the grid, which trilinear interpolation keeps without a kink.

    Without the loss of single samples, whose weights have no gradient.
    """
    f = field(unbounded=request.param == "unbounded")
    sizes = {"samples": 200.0, "shaded": 200.0, "blocks": 30.0}
    for stage in ("coarse", "fine"):
        f = with_stage(f, stage, threshold=0.0, entropy=0.0, per_point=0.0, **sizes)
    variables = started(f)
    if request.param == "fine":
        variables = grown(f, with_density(variables, 30.0), "fine")
    # Rays begin and end within the box, where nothing hangs on its faces.
    f = dataclasses.replace(f, setting=dataclasses.replace(f.setting, near=0.2, far=0.8))
    params, state = variables.params, variables.model_state
    place = voxel_grid.vertices(state.mask.shape) - 0.5
    rows = np.asarray(state.rows).ravel()
    where = np.zeros((len(params.density), 3), np.float32)
    where[rows[rows >= 0]] = place[rows >= 0]
    slopes = np.random.default_rng(0).normal(size=(3, params.features.shape[1])).astype(np.float32)
    params = params.replace(features=jnp.asarray(3 * where @ slopes))
    full = np.ones(state.mask.shape, bool)
    cells = np.asarray(voxel_grid.coarsen(jnp.asarray(full), grid(f, variables).space.reach))
    state = state.replace(mask=jnp.asarray(full & (np.asarray(state.rows) >= 0)), cells=jnp.asarray(cells))
    if isinstance(state, CoarseState):
        state = state.replace(learning_rate=np.ones_like(state.learning_rate))
    density = where @ np.array([[3.0], [-2.0], [1.0]], np.float32) - float(state.shift) - 2.0
    return f, jax.tree.map(jnp.asarray, with_density(Variables(params, state), density))


def test_the_loss_knows_where_its_rays_should_move(smooth):
    f, variables = smooth
    rng = np.random.default_rng(1)
    origins = rng.uniform(-0.15, 0.15, (RAYS, 3)).astype(np.float32)
    directions = rng.normal(size=(RAYS, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    target = Target(jnp.asarray(rng.uniform(size=(RAYS, 3)), jnp.float32), jnp.ones((RAYS, 3)))
    context = Context(jnp.int32(0), jnp.float32(0), jax.random.key(0), meshes.make_mesh(1))

    @jax.jit
    def loss(origins, directions):
        rays = Rays(origins, directions, jnp.zeros(RAYS, jnp.int32))
        return f.loss(variables.params, variables.model_state, rays, target, context)[0]

    found = jax.grad(loss, (0, 1))(origins, directions)
    assert all(np.isfinite(g).all() and np.abs(g).max() > 1e-4 for g in found)
    for which in (0, 1):
        for _ in range(4):
            step = rng.normal(size=(RAYS, 3)).astype(np.float32)
            h = 4e-3
            ends = [[origins, directions], [origins, directions]]
            for end, sign in zip(ends, (1, -1), strict=True):
                end[which] = end[which] + sign * h * step
            slope = (float(loss(*ends[0])) - float(loss(*ends[1]))) / (2 * h)
            np.testing.assert_allclose((found[which] * step).sum(), slope, rtol=0.03, atol=3e-4)
