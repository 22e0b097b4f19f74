"""DVGO's rendering and training loss against a plain sum over every sample; a full bucket only leaves rays out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.dvgo.grid import CoarseState, FineParams, from_saved
from jaxhw.nerf.fields.dvgo.loss import ray_sums
from jaxhw.nerf.fields.dvgo.space import Segments
from jaxhw.nerf.fields.field import Target
from jaxhw.nerf.networks import voxel_grid
from jaxhw.nerf.networks.tables import weights_of
from jaxhw.nerf.rendering import losses
from jaxhw.state import Variables
from jaxhw.task import Context
from tests.nerf.fields.dvgo.made import RAYS, field, grid, grown, ring, started, with_density, with_stage


@pytest.fixture(scope="module")
def rays():
    rng = np.random.default_rng(0)
    camera = rng.integers(12, size=RAYS)
    origins = np.asarray(ring().pose[camera, :, 3])
    directions = -origins + rng.normal(size=(RAYS, 3)) * 0.5
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Rays(jnp.asarray(origins, jnp.float32), jnp.asarray(directions, jnp.float32), jnp.asarray(camera))


@pytest.fixture(scope="module", params=["coarse", "fine", "unbounded"])
def filled(request):
    """A field in a stage, with random densities and colours."""
    rng = np.random.default_rng(1)
    f = field(unbounded=True, coarse_steps=0) if request.param == "unbounded" else field()
    variables = started(f)
    if request.param == "fine":
        params = variables.params
        variables = grown(f, variables.replace(params=params.replace(density=params.density + 20.0)), "fine")
    params, state = variables.params, variables.model_state
    mask = state.mask & (rng.random(state.mask.shape) < 0.3)
    cells = np.asarray(voxel_grid.coarsen(jnp.asarray(mask), grid(f, variables).space.reach))
    noise = lambda a, scale: (rng.normal(size=a.shape) * scale).astype(np.float32)
    # Between about 0.05 and 1 of opacity a sample.
    density = noise(params.density, 1.5) - float(state.shift) - 1.0
    params = params.replace(features=noise(params.features, 2.0))
    variables = with_density(Variables(params, state.replace(mask=mask, cells=cells)), density)
    return f, jax.tree.map(jnp.asarray, variables)


def stage(variables):
    return "fine" if isinstance(variables.params, FineParams) else "coarse"


def plain(f, variables, rays, offset):
    """(colours, depths, opacities) with every sample of every ray, none left out, on a white background."""
    return jax.jit(functools.partial(_plain, f))(variables, rays, offset)


def _plain(f, variables, rays, offset):
    g, (params, state) = grid(f, variables), (variables.params, variables.model_state)
    segments = Segments.through(g.space, rays, f.setting.near, f.setting.far, offset)
    k = jnp.broadcast_to(jnp.arange(g.space.count) * 1.0, (RAYS, g.space.count))
    t, u, inside = segments.at(g.space, k)
    index, fraction = voxel_grid.corners(u.reshape(-1, 3), g.space.shape)
    weights = weights_of(fraction, 4)
    full = lambda table: table[jnp.maximum(state.rows.ravel()[jnp.stack([index, index + 1], -1)], 0)]
    read = lambda table: (full(table) * weights[..., None]).sum((1, 2))
    density = params.density * state.learning_rate if isinstance(state, CoarseState) else params.density
    each = lambda a: jnp.repeat(a, g.space.count, 0)
    start = each(segments.start)
    length = g.space.lengths(each(rays.origins), each(rays.directions), start, (k + offset[:, None]).ravel())
    interval = g.options.stride * (g.options.voxels / np.prod(g.space.shape)) ** (1 / 3) * length
    alpha = 1 - (1 + jnp.exp(read(density)[:, 0] + state.shift)) ** -interval
    alpha = jnp.where(voxel_grid.nearest(state.mask, u) & inside, alpha.reshape(k.shape), 0)
    alpha = jnp.where(alpha > g.options.threshold, alpha, 0)
    through = jnp.cumprod(jnp.pad(1 - alpha, ((0, 0), (1, 0)), constant_values=1), 1)
    w = through[:, :-1] * alpha
    features = read(params.features)
    rgb = jax.nn.sigmoid(features)
    if g.network is not None:
        directions = g.of_directions(rays.directions)
        rgb = g.network.apply({"params": params.colour}, features, each(directions))
    rgb = (w[..., None] * rgb.reshape(*k.shape, 3)).sum(1) + through[:, -1:]
    return rgb, (w * t).sum(1) / jnp.maximum(w.sum(1), 1e-8), w.sum(1)


def sums_of(f, variables, rays, colour, offset):
    sums = jax.jit(functools.partial(ray_sums, f.options, f.setting))
    return sums(variables, rays, Target(colour, jnp.ones((len(rays), 3))), offset)


def test_rendering_is_the_plain_sum(filled, rays):
    f, variables = filled
    colour, depth, opacity = plain(f, variables, rays, jnp.full(RAYS, 0.5))
    assert 0.1 < opacity.mean() < 0.95
    rendered = jax.jit(f.render)(variables, rays, jnp.ones(3))
    np.testing.assert_allclose(rendered.colour, colour, atol=2e-3)  # what lies behind 0.1 per cent is not seen
    np.testing.assert_allclose(rendered.opacity, opacity, atol=2e-3)
    np.testing.assert_allclose(rendered.depth, depth, atol=2e-2)


def test_the_training_pass_is_the_plain_sum(filled, rays):
    f, variables = filled
    offset = jax.random.uniform(jax.random.key(0), (RAYS,))
    colours = jax.random.uniform(jax.random.key(1), (RAYS, 3))
    rgb, _, opacity = plain(f, variables, rays, offset)
    sums = sums_of(f, variables, rays, colours, offset)
    assert sums["overflow"] == 0 and sums["samples"] >= sums["shaded"] > 100
    coarse = stage(variables) == "coarse"
    counted = jnp.ones(RAYS, bool) if coarse else opacity > 0
    assert abs(int(sums["counted"]) - int(counted.sum())) <= (0 if coarse else 3)
    wanted = (counted * ((rgb - colours) ** 2).sum(-1)).sum()
    np.testing.assert_allclose(sums["error"], wanted, rtol=2e-2)
    np.testing.assert_allclose(
        sums["entropy"], (counted * losses.background_entropy(1 - opacity)).sum(), rtol=2e-2, atol=1e-2
    )


def test_gradients_are_those_of_the_plain_sum(filled, rays):
    f, variables = filled
    offset, target = jnp.full(RAYS, 0.5), jnp.zeros((RAYS, 3))
    ours = lambda p: sums_of(f, variables.replace(params=p), rays, target, offset)["error"]
    everywhere = lambda p: (plain(f, variables.replace(params=p), rays, offset)[0] ** 2).sum()
    found, wanted = (jax.jit(jax.grad(loss))(variables.params) for loss in (ours, everywhere))
    for name in ("density", "features"):
        a, b = getattr(found, name), getattr(wanted, name)
        scale = float(jnp.abs(b).max())
        assert scale > 0
        # Rays that miss everything are not counted by the fine stage; they have no gradient either.
        np.testing.assert_allclose(a, b, atol=1e-2 * scale)


def test_a_full_bucket_leaves_whole_rays_out(filled, rays):
    """With room for half of the samples, the sums are those of the first rays alone."""
    f, variables = filled
    grey, offset = jnp.full((RAYS, 3), 0.5), jnp.full(RAYS, 0.5)
    name = stage(variables)
    sums = sums_of(f, variables, rays, grey, offset)
    half = with_stage(f, name, samples=float(sums["samples"]) / RAYS / 2)
    few = sums_of(half, variables, rays, grey, offset)
    complete = RAYS - int(few["overflow"])
    assert 0 < complete < RAYS
    roomy = with_stage(f, name, blocks=40.0, samples=200.0, shaded=200.0)
    alone = sums_of(roomy, variables, *(a[:complete] for a in (rays, grey, offset)))
    for key in ("counted", "error", "entropy", "per_point"):
        np.testing.assert_allclose(few[key], alone[key], rtol=1e-4)


def test_eight_devices_have_the_loss_and_gradient_of_one(filled, rays):
    f, variables = filled
    f = with_stage(f, stage(variables), blocks=40.0, samples=200.0, shaded=200.0)
    white = jnp.ones((RAYS, 3))

    def value(mesh):
        context = Context(step=jnp.int32(0), progress=jnp.float32(0), rng=jax.random.key(0), mesh=mesh)
        loss = lambda p: f.loss(p, variables.model_state, rays, Target(white * 0.3, white), context)[0]
        return jax.jit(jax.value_and_grad(loss))(variables.params)

    one, eight = value(meshes.make_mesh(1)), value(meshes.make_mesh(8))
    np.testing.assert_allclose(one[0], eight[0], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(a).max() + 1e-9)),
        *map(lambda x: x[1], (one, eight)),
    )


def test_saved_variables_have_their_types_again(filled):
    """Also those of versions that counted steps in the state and called the per-voxel learning rate a rate."""
    _, variables = filled
    as_dicts = lambda node: {name: value for name, value in vars(node).items() if value is not None}
    saved = Variables(as_dicts(variables.params), as_dicts(variables.model_state))
    again = from_saved(saved)
    assert jax.tree.structure(again) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    older = {**saved.model_state, "step": jnp.int32(7)}
    if "learning_rate" in older:
        older["rate"] = older.pop("learning_rate")
    jax.tree.map(np.testing.assert_array_equal, from_saved(saved.replace(model_state=older)), variables)


def test_many_rays_left_out_are_one_line():
    f = field()
    state = started(f).model_state
    share = lambda *shares: state.replace(left_out=np.float32(shares))
    assert f.warning(share(0, 0.09, 0.05, 0)) == ""
    told = f.warning(share(0.2, 0.45, 0.05, 0))
    assert told == "45% of the rays have no place in a step and are left out: raise config.model.coarse.samples=40"
    fine = grown(f, with_density(started(f), 30.0), "fine").model_state
    assert f.warning(fine.replace(left_out=np.float32([0, 0, 0.3, 0]))).endswith("raise config.model.fine.shaded=60")
    told = f.warning(fine.replace(unmet=np.float32(0.2)))
    assert "the coarse stage took it for free space (lengthen config.model.coarse_steps)" in told and "\n" not in told


def test_near_is_a_share_of_the_cameras_distance_from_their_subject():
    """The ring's cameras are sqrt(10) away from the origin, whatever the scene's unit."""
    assert field(near=1.0).setting.near == 1.0
    for unit in (1.0, 5.0):
        cameras = ring(radius=3.0 * unit, height=unit)
        assert field(cameras, options_near=0.25).setting.near == pytest.approx(0.25 * 10**0.5 * unit)
        unbounded = field(cameras, options_near=0.25, unbounded=True).setting
        assert unbounded.near == pytest.approx(0.25 * 10**0.5 * unit)
