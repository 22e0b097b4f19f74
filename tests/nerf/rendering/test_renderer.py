"""One picture on one device, on eight, through jax.pmap, and in chunks of any size: the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.nerf.rendering.renderer import Renderer, render_pixels
from tests.nerf.fields.dvgo.made import field, ring, started, with_density


@pytest.fixture(scope="module")
def filled():
    f = field()
    variables = started(f)
    rows, params = variables.model_state.rows, variables.params
    points = np.linspace(-1, 1, rows.shape[0])
    density = np.where(np.linalg.norm(np.stack(np.meshgrid(points, points, points), -1), axis=-1) < 0.6, 30.0, -30.0)
    features = np.random.default_rng(0).normal(size=params.features.shape).astype(np.float32) * 3
    variables = with_density(variables, density[rows >= 0][:, None])
    return f, variables.replace(params=variables.params.replace(features=features))


def renderer(field, devices=1, chunk=8192):
    return Renderer(field.render, meshes.make_mesh(devices), np.ones(3), chunk)


@pytest.fixture(scope="module")
def camera():
    """21 by 17 pixels: no multiple of anything."""
    return ring(n=5, radius=2.5).resized((21, 17))[1]


@pytest.fixture(scope="module")
def one(filled, camera):
    return renderer(filled[0])(filled[1], camera)


def test_it_shows_a_ball_in_the_middle(one):
    assert one.colour.shape == (17, 21, 3) and one.depth.shape == one.opacity.shape == (17, 21)
    assert one.opacity[8, 10] > 0.99 and one.opacity[0, 0] < 1e-3
    np.testing.assert_allclose(one.colour[0, 0], 1)
    assert one.depth[8, 10] == pytest.approx(np.hypot(2.5, 1.0) - 0.5, abs=0.25)  # a voxel is 0.22
    assert one.depth[0, 0] == pytest.approx(0, abs=1e-3)
    assert np.ptp(one.colour[8, 10]) > 0.01


@pytest.mark.parametrize(("devices", "chunk"), [(8, 8192), (1, 50)])
def test_devices_and_chunks_change_nothing(filled, camera, one, devices, chunk):
    again = renderer(filled[0], devices, chunk)(filled[1], camera)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), one, again)


def test_it_is_what_pmap_gives(filled, camera, one):
    f, variables = filled
    pixels = np.arange(8 * 45).reshape(8, 45)
    mapped = jax.pmap(
        functools.partial(render_pixels, f.render, background=jnp.ones(3), chunk=8192), in_axes=(None, None, 0)
    )
    flat = lambda a: np.asarray(a).reshape(8 * 45, -1)[: 21 * 17].ravel()
    close = lambda a, b: np.testing.assert_allclose(a.ravel(), flat(b), atol=2e-5)
    jax.tree.map(close, one, mapped(variables, camera, pixels))


def test_one_compilation_for_each_number_of_pixels(filled, monkeypatch):
    calls = []
    original = type(filled[0]).render
    monkeypatch.setattr(type(filled[0]), "render", lambda *a: (calls.append(1), original(*a))[1])
    draw, cameras = renderer(filled[0]), ring(n=3).resized((6, 5))
    for i in range(3):
        draw(filled[1], cameras[i])
    traced = len(calls)
    upright = draw(filled[1], cameras.resized((5, 6))[0])  # as many pixels: the same program
    assert upright.colour.shape == (6, 5, 3) and len(calls) == traced
    draw(filled[1], cameras.resized((8, 5))[0])
    assert len(calls) == 2 * traced
