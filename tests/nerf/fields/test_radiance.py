"""Every field's radiance at points is what its pictures are composited of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.cameras.cameras import NO_CAMERA, Rays
from jaxhw.nerf.fields.dvgo.grid import place
from jaxhw.nerf.fields.field import Setting
from jaxhw.nerf.fields.nerfacto.options import ProposalOptions
from jaxhw.nerf.fields.vanilla import Options, Vanilla
from jaxhw.nerf.rendering import volume
from tests.nerf.fields.dvgo import made as dvgo
from tests.nerf.fields.fog import Fog
from tests.nerf.fields.fog import Options as FogOptions
from tests.nerf.fields.nerfacto import made as nerfacto

FINE = 1000  # samples of the quadrature
SETTING = Setting(dvgo.ring(), 1.0, 6.0, bounds=dvgo.BOX, steps=100)


def vanilla():
    field = Vanilla.create(Options(width=16, depth=2, skip=0, samples=1000, importance=8), SETTING)
    return field, field.start(jax.random.key(1))


def fog():
    field = Fog.create(FogOptions(samples=512), SETTING)
    return field, field.start(jax.random.key(1))


def grid(fine=False, unbounded=False):
    """DVGO, thick enough to be seen and thin enough to be seen through; of an unbounded scene in its cube alone."""
    field = dvgo.with_stage(
        dvgo.with_stage(dvgo.field(unbounded=unbounded), "coarse", stride=0.25), "fine", stride=0.25
    )
    variables = dvgo.started(field)
    if fine:
        variables = dvgo.grown(field, dvgo.with_density(variables, 8.0), "fine")
    state, rng = variables.model_state, np.random.default_rng(0)
    shift, middle = float(state.shift), (np.array(state.rows.shape) - 1) / 2
    inner = np.abs(np.argwhere(state.rows >= 0) / middle - 1).max(-1) < (0.6 if unbounded else 2)
    raw = np.where(inner, rng.normal(size=len(inner)) - 3, -30)[:, None] - shift
    features = rng.normal(size=variables.params.features.shape).astype(np.float32)
    variables = dvgo.with_density(variables, raw)
    return field, variables.replace(params=variables.params.replace(features=features))


def hashed(form):
    """nerfacto with as many samples as its quadrature needs to agree."""
    proposal = ProposalOptions(kind="grid", samples=(256,), voxels=12, warmup=20.0, anneal=10.0)
    field = nerfacto.field(
        form, unbounded=False, samples=256, proposal=proposal, shaded=260.0, threshold=0.0, background="scene",
        depth="expected",
    )  # fmt: skip
    return field, nerfacto.started(field)


FIELDS = {
    "vanilla": vanilla,
    "fog": fog,
    "dvgo coarse": grid,
    "dvgo fine": lambda: grid(fine=True),
    "dvgo unbounded": lambda: grid(unbounded=True),
    "nerfacto published": lambda: hashed("published"),
    "nerfacto fast": lambda: hashed("fast"),
}


def rays(distance, count=8):
    rng = np.random.default_rng(3)
    origins = dvgo.ring(radius=distance).pose[rng.integers(12, size=count), :, 3]
    directions = -origins + rng.normal(size=(count, 3)) * 0.3
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Rays(jnp.asarray(origins), jnp.asarray(directions, jnp.float32), jnp.full(count, NO_CAMERA))


def quadrature(field, variables, rays, near, far):
    """What `rays` see, from radiances at many evenly spaced points."""
    edges = jnp.linspace(near, far, FINE + 1)
    t = jnp.broadcast_to(0.5 * (edges[1:] + edges[:-1]), (len(rays), FINE))
    points = rays.origins[:, None] + rays.directions[:, None] * t[..., None]
    views = jnp.repeat(rays.directions, FINE, 0)
    density, colours = jax.jit(field.radiance)(variables, points.reshape(-1, 3), views)
    weights, left = volume.weights_from_density(density.reshape(t.shape), (far - near) / FINE)
    colour = volume.composite(weights, colours.reshape(*t.shape, 3), left, jnp.ones(3))
    return volume.Rendered(colour, volume.expected_depth(weights, t), weights.sum(-1))


@pytest.mark.parametrize("name", FIELDS)
def test_pictures_are_composited_of_radiances(name, monkeypatch):
    ends = volume.lengths  # rays end where they do: no last sample stands for all that is behind it
    monkeypatch.setattr(volume, "lengths", lambda distances: ends(distances, last=0.0))
    field, variables = FIELDS[name]()
    variables = jax.tree.map(jnp.asarray, variables)
    near, distance = (0.05, 1.0) if name.startswith("nerfacto") else (1.0, 3.0)
    seen = rays(distance)
    rendered = jax.jit(field.render)(variables, seen, jnp.ones(3))
    found = quadrature(field, variables, seen, near, 6.0)
    np.testing.assert_allclose(found.opacity, rendered.opacity, atol=0.03)
    np.testing.assert_allclose(found.colour, rendered.colour, atol=0.03)
    np.testing.assert_allclose(found.depth, rendered.depth, atol=0.08)
    assert rendered.opacity.max() > 0.2 and np.ptp(found.colour) > 0.02


def test_density_is_a_radiances():
    field, variables = grid(fine=True)
    variables = jax.tree.map(jnp.asarray, variables)
    points = jnp.asarray(np.random.default_rng(0).uniform(-1.2, 1.2, (500, 3)), jnp.float32)
    density, _ = field.radiance(variables, points, points)
    np.testing.assert_array_equal(field.density(variables, points), density)
    assert (density[(jnp.abs(points) > 1.1).any(-1)] == 0).all() and (density >= 0).all() and density.max() > 0


@pytest.mark.parametrize("shell", [0.0, 0.2])
def test_a_grids_strides_are_the_volumes_of_its_voxels(shell):
    """Density in contracted space is per contracted length: the cube root of how a volume shrinks there."""
    space = place(shell, 0.5, jnp.asarray(dvgo.BOX), (21, 21, 21))
    points = np.random.default_rng(0).uniform(-1, 1, (40, 3)).astype(np.float32) * (4 if shell else 1)
    volumes = jax.vmap(lambda point: jnp.linalg.det(jax.jacobian(space.locate)(point)))(points)
    np.testing.assert_allclose(space.strides(points), jnp.cbrt(volumes) / 0.5, rtol=1e-4)
