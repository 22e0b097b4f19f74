"""Hash grids: against a plain reading of their definition, vertex by vertex; gradients against finite differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw.nerf.networks import hash_grid
from jaxhw.nerf.networks.hash_grid import LAYOUTS, HashGrid

GRID = {"levels": 4, "features": 3, "size": 2**10, "coarsest": 4, "finest": 40}


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).uniform(0.01, 0.99, (60, 3)).astype(np.float32)


def tables(grid, scale=1.0):
    rng = np.random.default_rng(1)
    return {
        k: jnp.asarray(rng.normal(size=t.shape) * scale, jnp.float32) for k, t in grid.start(jax.random.key(0)).items()
    }


def row(grid, level, x, y, z):
    """The row of one vertex, in whole numbers of Python."""
    height = grid.resolutions[level] + 2
    if grid.layout != "hashed" and height**3 <= grid.size:
        return (x * height + y) * height + z
    if grid.layout == "column":
        mixed = (x * 805459861 ^ y * 2654435761) % 2**32
        return (mixed ^ mixed >> 15) % (grid.size - height) + z
    return (x ^ y * 2654435761 ^ z * 805459861) % grid.size


@pytest.mark.parametrize("layout", LAYOUTS)
def test_encoding_is_trilinear_interpolation_of_the_vertices_rows(layout, points):
    grid = HashGrid(**GRID, layout=layout)
    learnt, wanted = tables(grid), np.zeros((len(points), 12))
    for k, point in enumerate(points.astype(np.float64)):
        for level, cells in enumerate(grid.resolutions):
            low = np.floor(np.float32(point) * np.float32(cells)).astype(int)
            fraction = point * cells - low
            for corner in itertools.product((0, 1), repeat=3):
                weight = np.prod(np.where(corner, fraction, 1 - fraction))
                value = learnt[hash_grid.name(level)][row(grid, level, *(int(v) for v in low + corner))]
                wanted[k, 3 * level : 3 * level + 3] += weight * np.asarray(value)
    np.testing.assert_allclose(grid(learnt, jnp.asarray(points)), wanted, atol=2e-5)


def test_levels_grow_by_a_constant_factor():
    grid = HashGrid(16, 2, 2**19, 16, 2048, "hashed")
    assert grid.resolutions[0] == 16 and grid.resolutions[-1] in (2047, 2048)
    ratios = np.array(grid.resolutions[1:]) / grid.resolutions[:-1]
    assert (abs(ratios - 128 ** (1 / 15)) < 0.06).all()
    assert [HashGrid(16, 2, 2**19, 16, 2048, "dense").kind(level) for level in (0, 4, 5)] == [
        "dense",
        "dense",
        "hashed",
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_fit_into_their_tables_up_to_the_far_corner(layout):
    grid = HashGrid(**GRID, layout=layout)
    learnt, ends = tables(grid), jnp.array([[0.0, 0, 0], [1, 1, 1], [1, 0, 1]])
    for level in range(grid.levels):
        rows, _ = grid._rows(level, ends)
        assert rows.min() >= 0 and (rows + 8 // rows.shape[1] - 1).max() < len(learnt[hash_grid.name(level)])
    assert jnp.isfinite(grid(learnt, ends)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_tables_and_points(layout, points):
    grid = HashGrid(**GRID, layout=layout)
    learnt, factor = tables(grid), np.random.default_rng(2).normal(size=(60, 12)).astype(np.float32)
    total = lambda t, p: (grid(t, p) * factor).sum()
    by_table, by_point = jax.grad(total, (0, 1))(learnt, jnp.asarray(points))
    # The encoding is linear in its tables.
    np.testing.assert_allclose(sum((by_table[k] * learnt[k]).sum() for k in learnt), total(learnt, points), rtol=1e-4)
    # And in a point's coordinates within a cell, so that a small step is exact but for rounding.
    step = 1e-3 * np.eye(3, dtype=np.float32)
    cells = np.array(grid.resolutions)[:, None, None]
    stays = (np.floor((points - 2e-3) * cells) == np.floor((points + 2e-3) * cells)).all((0, 2))
    assert stays.sum() > 20
    for axis in range(3):
        ahead, back = grid(learnt, points + step[axis]), grid(learnt, points - step[axis])
        slope = ((ahead - back) * factor).sum(1) / 2e-3
        np.testing.assert_allclose(by_point[stays, axis], slope[stays], rtol=2e-2, atol=0.2)


def test_shares_open_levels():
    grid, x = HashGrid(**GRID, layout="column"), jnp.full((1, 3), 0.3)
    learnt = tables(grid)
    half = grid(learnt, x, jnp.array([1, 0.5, 0, 0]))
    np.testing.assert_allclose(half[0], grid(learnt, x)[0] * np.repeat([1, 0.5, 0, 0], 3), atol=1e-6)


def test_columns_spread_over_the_table():
    """Columns of a fine level begin evenly all over the table: no row has many more than others."""
    grid = HashGrid(1, 2, 2**14, 512, 512, "column")
    x, y = np.meshgrid(np.arange(200), np.arange(200), indexing="ij")
    begin = np.asarray(grid.columns(0, jnp.asarray(x.ravel()), jnp.asarray(y.ravel())))
    counts = np.histogram(begin, 64, (0, 2**14 - 514))[0]
    assert counts.min() > 0.8 * counts.mean() and counts.max() < 1.2 * counts.mean()
    assert len(np.unique(begin)) > 0.85 * (2**14 - 514)
