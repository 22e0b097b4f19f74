"""Interpolation against scipy, its gradient against JAX's own, sparse rows against dense ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxhw.nerf.networks import voxel_grid
from jaxhw.nerf.networks.tables import interpolate, weights_of

SHAPE, CHANNELS = (5, 7, 6), 3


@pytest.fixture(scope="module")
def grid():
    return np.random.default_rng(0).normal(size=(*SHAPE, CHANNELS)).astype(np.float32)


@pytest.fixture(scope="module")
def points():
    """Inside, with the first and the last vertex and a point on a face among them."""
    inside = np.random.default_rng(1).uniform(0, 1, (40, 3)) * (np.array(SHAPE) - 1)
    return np.concatenate([inside, [[0, 0, 0], [4, 6, 5], [2, 6, 1.5]]]).astype(np.float32)


def by_scipy(grid, points):
    return np.stack([ndimage.map_coordinates(grid[..., c], points.T, order=1) for c in range(grid.shape[-1])], -1)


def test_interpolation_is_scipys(grid, points):
    index, fraction = voxel_grid.corners(jnp.asarray(points), SHAPE)
    seen = interpolate(jnp.asarray(grid.reshape(-1, CHANNELS)), index, fraction)
    np.testing.assert_allclose(seen, by_scipy(grid, points), atol=2e-6)


def test_outside_is_the_nearest_face(grid):
    index, fraction = voxel_grid.corners(jnp.array([[-3.0, 2.0, 9.0]]), SHAPE)
    seen = interpolate(jnp.asarray(grid.reshape(-1, CHANNELS)), index, fraction)
    np.testing.assert_allclose(seen[0], grid[0, 2, 5], atol=1e-6)


def test_the_gradient_is_that_of_plain_indexing(grid, points):
    table = jnp.asarray(grid.reshape(-1, CHANNELS))
    index, fraction = voxel_grid.corners(jnp.asarray(points), SHAPE)
    factor = jax.random.normal(jax.random.key(0), (len(points), CHANNELS))

    def plain(table):
        weights = weights_of(fraction, 4)
        return jnp.einsum("kiec,kie,kc->", table[jnp.stack([index, index + 1], -1)], weights, factor)

    ours = jax.grad(lambda t: (interpolate(t, index, fraction) * factor).sum())(table)
    np.testing.assert_allclose(ours, jax.grad(plain)(table), atol=1e-5)


def test_sparse_rows_give_what_the_dense_grid_gives(grid):
    """For every point whose nearest vertex is in the mask; and the two ends of an edge lie side by side."""
    rng = np.random.default_rng(2)
    mask = rng.random(SHAPE) < 0.1
    rows = voxel_grid.number_rows(mask)
    assert 0 < rows.max() + 1 < rows.size
    table = jnp.asarray(grid[rows >= 0])
    points = rng.uniform(0, 1, (3000, 3)).astype(np.float32) * (np.array(SHAPE) - 1)
    points = points[np.asarray(voxel_grid.nearest(jnp.asarray(mask), jnp.asarray(points)))]
    assert len(points) > 100
    index, fraction = voxel_grid.corners(jnp.asarray(points), SHAPE)
    seen = interpolate(table, jnp.asarray(rows).ravel()[index], fraction)
    np.testing.assert_allclose(seen, by_scipy(grid, points), atol=2e-6)
    np.testing.assert_allclose(
        voxel_grid.interpolate_sparse(table, jnp.asarray(rows), jnp.asarray(points)), seen, atol=1e-6
    )


def test_interpolating_sparse_rows_takes_missing_vertices_as_0(grid):
    rows = np.full(SHAPE, -1)
    rows[2, 3, 4] = 0
    table = jnp.asarray(grid[2, 3, 4][None])
    near = voxel_grid.interpolate_sparse(table, jnp.asarray(rows), jnp.array([[2.0, 3.25, 4.5], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(near, [0.375 * grid[2, 3, 4], [0, 0, 0]], atol=1e-6)


def test_pools_are_scipys_filters(grid):
    values = grid[..., 0]
    wanted = ndimage.maximum_filter(values, 3, mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(voxel_grid.dilate(jnp.asarray(values)), wanted)
    mask = values > 1.5
    cells = np.asarray(voxel_grid.coarsen(jnp.asarray(mask), 2))
    assert cells.shape == (2, 2, 2)
    for cell in np.ndindex(cells.shape):
        low = np.array(cell) * 4
        window = tuple(slice(max(a - 2, 0), a + 6) for a in low)
        assert cells[cell] == mask[window].any()


def test_shapes_have_cubic_voxels():
    shape = voxel_grid.shape_of(np.array([[0, 0, 0], [1.0, 2.0, 0.5]]), 1000)
    assert shape == (10, 20, 5)
    assert min(voxel_grid.shape_of(np.array([[0, 0, 0], [1.0, 1.0, 1e-3]]), 1000)) == 4


def test_vertices_are_in_raster_order():
    fractions = voxel_grid.vertices((2, 3, 2))
    np.testing.assert_allclose(fractions[[0, 1, 2, 6]], [[0, 0, 0], [0, 0, 1], [0, 0.5, 0], [1, 0, 0]])


def test_the_gradient_of_the_points_is_that_of_plain_indexing(grid, points):
    """Off the vertices and the faces, where the derivative of trilinear interpolation jumps."""
    table, inside = jnp.asarray(grid.reshape(-1, CHANNELS)), jnp.asarray(points[:40])
    factor = jax.random.normal(jax.random.key(0), (40, CHANNELS))

    def loss(read, points):
        index, fraction = voxel_grid.corners(points, SHAPE)
        return (read(table, index, fraction) * factor).sum()

    def plain(table, index, fraction):
        weights = weights_of(fraction, 4)
        return jnp.einsum("kiec,kie->kc", table[jnp.stack([index, index + 1], -1)], weights)

    found, wanted = (jax.jit(jax.grad(loss, 1), static_argnums=0)(f, inside) for f in (interpolate, plain))
    assert jnp.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-5)
