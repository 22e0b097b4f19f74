"""Volume rendering against nerfacc and against a medium whose light one can integrate by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.rendering import volume
from tests.golden import FOLDER as GOLDEN_FOLDER


@pytest.fixture(scope="module")
def golden():
    with jax.enable_x64(True):
        file = np.load(GOLDEN_FOLDER / "nerf_volume.npz")
        yield {name: jnp.asarray(file[name]) for name in file.files}


def test_weights_are_nerfaccs(golden):
    weights, behind = volume.weights_from_density(golden["density"], jnp.diff(golden["edges"]))
    np.testing.assert_allclose(weights, golden["weights"], atol=1e-12)
    np.testing.assert_allclose(1 - behind, golden["opacity"], atol=1e-12)
    weights, _ = volume.weights_from_alpha(golden["alpha"])
    np.testing.assert_allclose(weights, golden["weights_of_alpha"], atol=1e-12)


def test_colours_depths_and_gradients_are_nerfaccs(golden):
    edges = golden["edges"]
    middles = (edges[:, 1:] + edges[:, :-1]) / 2

    def see(density):
        weights, behind = volume.weights_from_density(density, jnp.diff(edges))
        return volume.composite(weights, golden["colours"], behind, jnp.zeros(3)), (weights * middles).sum(-1)

    rgb, depth = see(golden["density"])
    np.testing.assert_allclose(rgb, golden["rgb"], atol=1e-12)
    np.testing.assert_allclose(depth, golden["depth_sum"], atol=1e-12)
    gradient = jax.grad(lambda d: see(d)[0].sum() + (see(d)[1] ** 2).sum())(golden["density"])
    np.testing.assert_allclose(gradient, golden["density_gradient"], atol=1e-9)


@pytest.mark.parametrize("density", [0.0, 0.3, 5.0])
def test_a_constant_medium(density):
    """Between 1 and 3: transmittance exp(-2 sigma), mean depth of what is seen by Beer and Lambert's law."""
    edges = jnp.linspace(1.0, 3.0, 2001)
    middles = (edges[1:] + edges[:-1])[None] / 2
    weights, behind = volume.weights_from_density(jnp.full((1, 2000), density), jnp.diff(edges)[None])
    np.testing.assert_allclose(behind, np.exp(-2 * density), rtol=1e-4)
    np.testing.assert_allclose(weights.sum(-1) + behind, 1, rtol=1e-5)
    colour = volume.composite(weights, jnp.full((1, 2000, 3), 0.2), behind, jnp.ones(3))
    np.testing.assert_allclose(colour, 0.2 + 0.8 * np.exp(-2 * density), rtol=1e-4)
    if density:
        exact = 1 + 1 / density - 2 / np.expm1(2 * density)
        np.testing.assert_allclose(volume.expected_depth(weights, middles), exact, rtol=1e-3)


def test_an_empty_ray_has_depth_0_and_finite_gradients():
    t = jnp.linspace(2.0, 6.0, 8)[None]
    depth = lambda density: volume.expected_depth(volume.weights_from_density(density, volume.lengths(t))[0], t).sum()
    assert depth(jnp.zeros((1, 8))) == 0
    for density in (jnp.zeros((1, 8)), jnp.full((1, 8), 1e6)):
        assert jnp.isfinite(jax.grad(depth)(density)).all()


def test_the_last_sample_is_infinitely_long():
    t = jnp.array([[1.0, 2.0, 4.0]])
    np.testing.assert_allclose(volume.lengths(t)[0, :2], [1, 2])
    weights, behind = volume.weights_from_density(jnp.array([[0.1, 0.2, 0.3]]), volume.lengths(t))
    np.testing.assert_allclose(
        weights[0], [1 - np.exp(-0.1), np.exp(-0.1) * (1 - np.exp(-0.4)), np.exp(-0.5)], rtol=1e-5
    )
    assert behind[0] == 0
