"""The network's size and wiring, and that it learns a disc."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhw import mesh as meshes
from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.field import Target
from jaxhw.nerf.fields.vanilla import Options, Vanilla, _Pass
from jaxhw.nerf.networks.encodings import positional_encoding
from jaxhw.nerf.networks.mlp import NerfMLP
from jaxhw.task import Context


def test_positional_encoding():
    x = jnp.array([[0.3, -0.7, 0.1]])
    encoded = positional_encoding(x, 10)
    assert encoded.shape == (1, 63)
    np.testing.assert_allclose(encoded[0, :3], x[0])
    np.testing.assert_allclose(encoded[0, 3 + 3 * 4 + 1], np.sin(2**4 * -0.7), atol=1e-5)
    np.testing.assert_allclose(encoded[0, 33 + 3 * 9 + 2], np.cos(2**9 * 0.1), atol=1e-4)


def test_angles_by_doubling_stay_accurate():
    x = np.random.default_rng(0).uniform(-4, 4, (20_000, 1)).astype(np.float32)
    encoded = np.asarray(positional_encoding(jnp.asarray(x), 10))
    angles = 2.0 ** np.arange(10) * x.astype(np.float64)
    wanted = np.concatenate([x, np.sin(angles), np.cos(angles)], 1)
    np.testing.assert_allclose(encoded, wanted, atol=6e-5)


def test_directions_by_ray_are_the_papers_concatenation():
    """Figure 7 sample by sample: the encoded direction stands beside the bottleneck of each sample."""
    rng = np.random.default_rng(1)
    points, rays = rng.normal(size=(5, 7, 3)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    network = NerfMLP(width=16, depth=3, skip=1)
    params = network.init(jax.random.key(0), points, rays)["params"]
    density, colour = network.apply({"params": params}, points, rays)
    dense = lambda x, name: x @ params[name]["kernel"] + params[name]["bias"]
    encoded = positional_encoding(points, 10)
    x = encoded
    for i in range(3):
        x = jnp.maximum(dense(x, f"layer_{i}"), 0)
        x = jnp.concatenate([encoded, x], -1) if i == 1 else x
    np.testing.assert_allclose(density, jnp.maximum(dense(x, "density")[..., 0], 0), atol=1e-5)
    each = jnp.broadcast_to(positional_encoding(rays, 4)[:, None], (5, 7, 27))
    x = jnp.concatenate([dense(x, "bottleneck"), each], -1) @ params["view"] + params["view_bias"]
    np.testing.assert_allclose(colour, jax.nn.sigmoid(dense(jnp.maximum(x, 0), "colour")), atol=1e-5)


def test_the_network_is_the_papers():
    """595,844 parameters, and the encoded position comes in behind the fifth layer."""
    points, rays = jnp.zeros((1, 1, 3)), jnp.zeros((1, 3))
    params = jax.eval_shape(lambda: NerfMLP().init(jax.random.key(0), points, rays))["params"]
    assert sum(p.size for p in jax.tree.leaves(params)) == 595_844
    widths = [params[f"layer_{i}"]["kernel"].shape[0] for i in range(8)]
    assert widths == [63, 256, 256, 256, 256, 319, 256, 256]
    assert params["view"].shape == (256 + 27, 128)


@pytest.fixture(scope="module")
def scene():
    """Rays along z through a disc of radius 0.5 at z = 1.5, orange on white."""
    xy = np.random.default_rng(0).uniform(-1, 1, (2048, 2))
    origins = np.concatenate([xy, np.zeros((2048, 1))], 1).astype(np.float32)
    directions = np.broadcast_to(np.array([0, 0, 1], np.float32), origins.shape)
    hit = (xy**2).sum(1) < 0.25
    colours = np.where(hit[:, None], [0.9, 0.5, 0.1], 1.0).astype(np.float32)
    return Rays(jnp.asarray(origins), jnp.asarray(directions), jnp.full(2048, -1)), colours, hit


def test_it_learns_a_disc(scene):
    rays, colours, hit = scene
    field = Vanilla(Options(width=32, depth=3, skip=1, samples=12, importance=12), near=0.5, far=2.5)
    variables = field.start(jax.random.key(0))
    adam, mesh = optax.adam(5e-3), meshes.make_mesh(1)

    @jax.jit
    def step(variables, opt_state, i):
        rows = jax.random.randint(jax.random.key(i), (256,), 0, 2048)
        target = Target(jnp.asarray(colours)[rows], jnp.ones((256, 3)))
        context = Context(i, i / 150, jax.random.key(i), mesh)
        loss = lambda p: field.loss(p, variables.model_state, rays[rows], target, context)
        (_, (_, numbers)), grads = jax.value_and_grad(loss, has_aux=True)(variables.params)
        updates, opt_state = adam.update(grads, opt_state)
        return variables.replace(params=optax.apply_updates(variables.params, updates)), opt_state, numbers

    opt_state = adam.init(variables.params)
    for i in range(150):
        variables, opt_state, numbers = step(variables, opt_state, i)
    assert numbers["psnr"] > 18
    rendered = jax.jit(field.render)(variables, rays, jnp.ones(3))
    assert np.abs(np.asarray(rendered.colour) - colours).mean() < 0.1
    assert rendered.opacity[hit].mean() > rendered.opacity[~hit].mean() + 0.3


def test_the_fine_samples_contain_the_coarse_ones_and_lie_where_something_is():
    """With a wall at t = 1.5, half of the importance samples or more are near it."""
    field = Vanilla(Options(width=8, depth=2, skip=5, samples=16, importance=16), near=1.0, far=2.0)

    def wall(params, rays, t, background, rng):
        return _Pass(jnp.zeros((len(t), 3)), jnp.where(jnp.abs(t - 1.5) < 0.1, 0.5, 0.0), t)

    object.__setattr__(field, "_pass", wall)
    rays = Rays(jnp.zeros((2, 3)), jnp.ones((2, 3)), jnp.full(2, -1))
    passes = field._render({"coarse": None, "fine": None}, rays, jnp.ones(3), jax.random.key(0))
    coarse, fine = (made.t for made in passes)
    assert fine.shape == (2, 32) and (jnp.diff(fine) >= 0).all()
    assert all(jnp.isin(coarse[i], fine[i]).all() for i in range(2))
    assert (jnp.abs(fine - 1.5) < 0.2).sum(1).min() >= 16
