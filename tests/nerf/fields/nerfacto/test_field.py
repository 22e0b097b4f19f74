"""nerfacto's loss and rendering in both forms: against plain sums, on many devices, step after step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.nerf.fields.field import Setting
from jaxhw.nerf.fields.nerfacto import shade, space
from jaxhw.nerf.fields.nerfacto.field import Nerfacto
from jaxhw.nerf.fields.nerfacto.loss import level_shares, sometimes
from jaxhw.nerf.fields.nerfacto.march import Samples, march
from jaxhw.nerf.fields.nerfacto.options import HashOptions, Options, ProposalOptions
from jaxhw.task import Context
from tests.nerf.fields.nerfacto.made import FORMS, cameras, field, rays, started, target


def context(step=0, devices=1, seed=3):
    rng = jax.random.key(seed)
    return Context(step=jnp.int32(step), progress=jnp.float32(0), rng=rng, mesh=meshes.make_mesh(devices))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("unbounded", [True, False])
def test_pictures_are_the_sum_over_all_samples(form, unbounded):
    """Buckets of colours leave out nothing that weighs anything."""
    f = field(form, unbounded, threshold=0.0, background="last_sample" if unbounded else "scene", depth="expected")
    variables, white = started(f), jnp.array([1.0, 0.5, 0.25])
    rendered = jax.jit(f.render)(variables, rays(), white)

    @jax.jit
    def everywhere(variables):
        """Thickness, distance and colour of every sample."""
        own = space.to_place(variables.model_state.place, rays())
        limits = f.networks.region.limits(own, rendered=True)
        _, samples = march(f.networks, variables.params, own, limits, jnp.float32(0.7), None)
        points, inside = samples.unit_points(own, f.networks.region)
        density, geometry = f.networks.density(variables.params, points)
        by_ray = f.networks.by_ray(variables.params, own.directions, own.camera)
        colours = f.networks.colours(variables.params, geometry.reshape(*inside.shape, -1), by_ray[:, None])
        return density.reshape(inside.shape) * inside * samples.lengths, samples.middles, colours

    tau, middles, colours = (np.asarray(a, np.float64) for a in everywhere(variables))
    through = np.exp(-np.cumsum(tau, 1))
    weights = (1 - np.exp(-tau)) * np.concatenate([np.ones((len(tau), 1)), through[:, :-1]], 1)
    behind = colours[:, -1] if unbounded else white
    wanted = (weights[..., None] * colours).sum(1) + through[:, -1:] * behind
    np.testing.assert_allclose(rendered.colour, wanted, atol=2e-5)
    np.testing.assert_allclose(rendered.opacity, weights.sum(1), atol=1e-5)
    depth = (weights * middles).sum(1) / np.maximum(weights.sum(1), 1e-8)
    depth *= float(variables.model_state.place.half_edge)
    np.testing.assert_allclose(rendered.depth, depth, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_loss_has_finite_gradients_for_all_that_is_learnt_and_for_rays(form):
    f = field(form)
    variables = started(f)

    def total(params, origins, directions):
        moved = rays().replace(origins=origins, directions=directions)
        return f.loss(params, variables.model_state, moved, target(), context())[0]

    r = rays()
    by_params, by_origin, by_direction = jax.jit(jax.grad(total, (0, 1, 2)))(variables.params, r.origins, r.directions)
    for path, gradient in jax.tree_util.tree_leaves_with_path((by_params, by_origin, by_direction)):
        assert jnp.isfinite(gradient).all() and jnp.abs(gradient).max() > 0, path


def test_gradients_of_rays_are_those_of_finite_differences():
    """Of the colours' error alone, with samples that stay where they are."""
    f = field(
        "fast",
        samples=40,
        start_density=0.002,
        hash=HashOptions(levels=2, table_size=2**10, coarsest=4, finest=6, layout="column"),
    )
    variables, r = started(f, 50.0), rays()
    own = space.to_place(variables.model_state.place, r)
    edges = jnp.broadcast_to(jnp.linspace(0.3, 1.8, 41), (len(r), 41))
    samples = Samples(edges, edges)

    @jax.jit
    def error(origins):
        moved = own.replace(origins=origins)
        seen = shade.composite(f.networks, variables.params, moved, samples, jnp.ones(2))
        return ((shade.colour_all(f.networks, variables.params, moved, seen).colour - target().colour) ** 2).sum(-1)

    slope = jax.grad(lambda o: error(o).sum())(own.origins)
    for axis in range(3):
        step = 1e-3 * jnp.eye(3)[axis]
        numeric = (error(own.origins + step) - error(own.origins - step)) / 2e-3
        assert np.corrcoef(numeric, slope[:, axis])[0, 1] > 0.99


@pytest.mark.parametrize("form", FORMS)
def test_proposals_learn_only_when_they_are_due(form):
    f = field(form)
    variables = started(f)
    gradient = jax.jit(jax.grad(lambda p, s, c: f.loss(p, s, rays(), target(), c)[0]))
    largest = lambda tree: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree))
    resting = variables.model_state.replace(since=jnp.int32(1))
    assert largest(gradient(variables.params, resting, context(50))["proposals"]) == 0
    due = variables.model_state.replace(since=jnp.int32(9))
    assert largest(gradient(variables.params, due, context(50))["proposals"]) > 0


def test_sometimes_is_the_function_or_nothing():
    f = lambda x, y: (x["a"] ** 2 * y).sum()
    x, y = {"a": jnp.arange(3.0)}, jnp.ones(3)
    for learns in (True, False):
        value, (dx, dy) = jax.value_and_grad(lambda x, y, learns=learns: sometimes(jnp.bool_(learns), f, x, y), (0, 1))(
            x, y
        )
        assert value == learns * f(x, y)
        np.testing.assert_allclose(dx["a"], learns * 2 * x["a"])
        np.testing.assert_allclose(dy, learns * x["a"] ** 2)


def test_a_full_bucket_leaves_rays_out_and_reports_them():
    f, small = field(shaded=10.0, threshold=0.0), field(shaded=3.0, threshold=0.0)
    variables = started(f)
    losses = {}
    for name, which in (("all", f), ("some", small)):
        losses[name] = jax.jit(which.loss)(variables.params, variables.model_state, rays(), target(), context())[1]
    assert losses["all"][1]["overflow"] == 0 and losses["all"][1]["shaded"] == 10
    left_out = losses["some"][1]["overflow"]
    assert 0.6 * len(rays()) < left_out < 0.8 * len(rays()) and losses["some"][1]["shaded"] <= 3
    state = losses["some"][0].replace(left_out=np.float32(0.5))
    assert "config.model.shaded=3" in small.warning(state) and not f.warning(losses["all"][0])


@pytest.mark.parametrize("form", FORMS)
def test_eight_devices_equal_one(form):
    f = field(form, shaded=0.0)
    variables = started(f)
    total = lambda params, devices: f.loss(params, variables.model_state, rays(), target(), context(devices=devices))[0]
    grads = [jax.jit(jax.value_and_grad(total), static_argnums=1)(variables.params, n) for n in (1, 8)]
    for a, b in zip(*map(jax.tree.leaves, grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("form", FORMS)
def test_it_learns_a_picture(form):
    """A red left and a blue right half, in a hundred steps."""
    f = field(form)
    variables, tx = f.start(jax.random.key(0)), optax.adam(1e-2)
    opt, r = tx.init(variables.params), rays(256)
    wanted = target(256).replace(
        colour=jnp.where(r.directions[:, :1] > 0, jnp.array([0.8, 0.1, 0.1]), jnp.array([0.1, 0.1, 0.8]))
    )

    traced = []

    @jax.jit
    def step(params, state, opt, i):
        traced.append(i)
        one = context().replace(step=i, rng=jax.random.fold_in(jax.random.key(1), i))
        (_, (state, numbers)), g = jax.value_and_grad(f.loss, has_aux=True)(params, state, r, wanted, one)
        updates, opt = tx.update(g, opt)
        return optax.apply_updates(params, updates), state, opt, numbers

    everywhere = meshes.replicated(context().mesh)
    params, state, opt = jax.device_put((variables.params, variables.model_state, opt), everywhere)
    for i in range(100):
        params, state, opt, numbers = step(params, state, opt, jnp.int32(i))
    assert len(traced) == 1, "every step is one program, whether proposals learn or not"
    assert numbers["psnr"] > 22, numbers


def test_predicted_normals_have_a_loss_of_their_own():
    f, plain = field("published", normals=True), field("published")
    variables = started(f)
    value = lambda which, p: which.loss(p, variables.model_state, rays(), target(), context())[0]
    with_normals, gradients = jax.jit(jax.value_and_grad(lambda p: value(f, p)))(variables.params)
    assert with_normals > jax.jit(lambda p: value(plain, p))(variables.params)
    gradient = gradients["normals"]
    assert all(jnp.isfinite(g).all() and jnp.abs(g).max() > 0 for g in jax.tree.leaves(gradient))


def test_levels_open_from_coarse_to_fine():
    np.testing.assert_allclose(level_shares(jnp.int32(0), 100, 4), [1, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(level_shares(jnp.int32(50), 100, 4), [1, 1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(level_shares(jnp.int32(75), 100, 4), [1, 1, 1, 0.5], atol=1e-6)
    np.testing.assert_allclose(level_shares(jnp.int32(900), 100, 4), np.ones(4), atol=1e-6)
    np.testing.assert_allclose(level_shares(jnp.int32(0), 0, 4), np.ones(4))


def test_a_capture_is_learnt_around_its_cameras_or_their_subject():
    shifted = cameras()
    pose = np.array(shifted.pose)
    pose[:, :, 3] += [5, 0, 0]
    setting = Setting(shifted.replace(pose=pose), 0.05, 1000.0, unbounded=True, near_from="guess")
    by_cameras = space.place(Options(), setting)
    np.testing.assert_allclose(by_cameras.centre, [5, 0, 0.3], atol=1e-5)
    np.testing.assert_allclose(by_cameras.half_edge, np.abs(pose[:, :, 3] - by_cameras.centre).max())
    np.testing.assert_allclose(space.place(Options(centre="subject"), setting).centre, 0)


def test_bad_options_are_one_line():
    setting = Setting(cameras(), 0.05, 1000.0, unbounded=True, near_from="guess")
    with pytest.raises(UserError, match=r"proposal\.finest=\(128, 256\) must have a number for each round"):
        Nerfacto.create(Options(proposal=ProposalOptions(samples=(64,))), setting)
    with pytest.raises(UserError, match=r"hash\.finest=8 must be at least coarsest=16"):
        Nerfacto.create(Options(hash=HashOptions(finest=8)), setting)
    with pytest.raises(UserError, match="near=2 must be less than"):
        Nerfacto.create(dataclasses.replace(Options(), near=2.0, far=1.0), setting)


def test_embeddings_of_other_pictures_are_one_line():
    f = field("published")
    variables = f.start(jax.random.key(0))
    saved = variables.replace(model_state=dataclasses.asdict(variables.model_state))
    assert jax.tree.structure(f.from_saved(saved)) == jax.tree.structure(variables)
    fewer = saved.replace(params=saved.params | {"appearance": saved.params["appearance"][:-1]})
    with pytest.raises(UserError, match="the appearance of 6 pictures, and the scene 7 to train on: put its pictures"):
        f.from_saved(fewer)
