"""Voxel grids: trilinear interpolation with a fast gradient, resizing, occupancy.

A grid of shape (x, y, z) has its values at the vertices, the outermost on the faces of its box (torch's
align_corners=True). Coordinates count vertices: 0 to n - 1 along an axis.

Values are kept as a table [v, c] of rows. Either every vertex has one, in order, or a grid of row numbers says where:
free space then costs neither memory nor time in the optimiser. Rows are numbered along z first, so that where a vertex
and the next along z both have rows, they lie side by side: a sample reads four windows of two rows (`tables.py`), and
its gradient is added in four windows.

A dense grid of values [x, y, z, c] is read by `tables.interpolate(values.reshape(-1, c), *corners(k, (x, y, z)))`,
and resized by reading it at `vertices` of the new shape; free space is found by `dilate` and `coarsen`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxhw.nerf.networks.tables import EDGES, weights_of

CELL = 4  # vertices along the edge of a cell of `coarsen`


def corners(coordinates: jax.Array, shape: tuple[int, int, int]) -> tuple[jax.Array, jax.Array]:
    """The vertices around points, for `tables.interpolate`.

    Args:
      coordinates: [k, 3]; what lies outside the grid is moved to its surface.

    Returns:
      (index [k, 4]: the lower vertex of each edge along z, counted through the grid; fraction [k, 3] of the cell).
    """
    last = jnp.array(shape) - 1
    inside = jnp.clip(coordinates, 0, last.astype(coordinates.dtype))
    low = jnp.minimum(inside.astype(jnp.int32), last - 1)
    index = [((low[:, 0] + i) * shape[1] + low[:, 1] + j) * shape[2] + low[:, 2] for i, j in EDGES]
    return jnp.stack(index, -1), inside - low


def interpolate_sparse(table: jax.Array, rows: jax.Array, coordinates: jax.Array) -> jax.Array:
    """Interpolates where vertices may lack a row (-1 in `rows` [x, y, z]), which counts as 0: [k, c]."""
    index, fraction = corners(coordinates, rows.shape)
    weights = weights_of(fraction, len(EDGES))
    padded = jnp.pad(table, ((0, 1), (0, 0)))
    total = 0.0
    for end in (0, 1):
        found = rows.ravel()[index + end]
        found = jnp.where(found < 0, len(table), found)
        total += (padded[found] * weights[..., end, None]).sum(1)
    return total


def number_rows(mask: np.ndarray) -> np.ndarray:
    """Row numbers [x, y, z] int32: one for each vertex that a point near `mask` may read, -1 for the rest.

    Such a point's cell has the vertex as a corner, so its other corners are at most one vertex away.
    """
    live = np.asarray(dilate(jnp.asarray(mask)))
    return np.where(live, np.cumsum(live).reshape(live.shape) - 1, -1).astype(np.int32)


def scatter_rows(values: jax.Array, rows: jax.Array, fill: float) -> jax.Array:
    """Values [v] of rows as a grid [x, y, z], `fill` where there is none."""
    return jnp.where(rows >= 0, values[jnp.maximum(rows, 0)], fill)


def dilate(mask: jax.Array) -> jax.Array:
    """Max pooling: each vertex takes the largest of the 27 values around it (max_pool3d(3, padding=1)); [x, y, z]."""
    return _pool(mask, 3, 1, [(1, 1)] * 3)


def coarsen(mask: jax.Array, reach: int) -> jax.Array:
    """Cells of 4^3 vertices that hold, or lie within `reach` vertices of, anything in `mask`: ceil(shape / 4) bools."""
    ends = [(reach, CELL * math.ceil(n / CELL) - n + reach) for n in mask.shape]
    return _pool(mask, CELL + 2 * reach, CELL, ends)


def _pool(values: jax.Array, size: int, stride: int, padding) -> jax.Array:
    """Pooled along one axis after the other: a window of 3 + 3 + 3 instead of 27."""
    lowest = np.array(False) if values.dtype == bool else np.array(-np.inf, values.dtype)
    largest = lax.bitwise_or if values.dtype == bool else lax.max
    for axis in range(3):
        window, strides = [1] * 3, [1] * 3
        window[axis], strides[axis] = size, stride
        pad = [padding[i] if i == axis else (0, 0) for i in range(3)]
        values = lax.reduce_window(values, lowest, largest, window, strides, pad)
    return values


def vertices(shape: tuple[int, int, int]) -> np.ndarray:
    """Where the vertices lie as fractions of the box, [x * y * z, 3] float32."""
    axes = [np.linspace(0, 1, n, dtype=np.float32) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def nearest(grid: jax.Array, coordinates: jax.Array) -> jax.Array:
    """The value at the nearest vertex, for coordinates [..., 3] inside the grid or not (then the nearest face's)."""
    index = jnp.clip(jnp.round(coordinates).astype(jnp.int32), 0, jnp.array(grid.shape) - 1)
    return gather(grid, index)


def gather(grid: jax.Array, index: jax.Array) -> jax.Array:
    """grid[index] for index [..., 3], which must be inside."""
    flat = (index[..., 0] * grid.shape[1] + index[..., 1]) * grid.shape[2] + index[..., 2]
    return grid.ravel().at[flat].get(mode="promise_in_bounds")


def shape_of(box: np.ndarray, voxels: float) -> tuple[int, int, int]:
    """The grid of about `voxels` cubic voxels in a box [2, 3]; at least 4 along each axis."""
    extent = np.asarray(box[1] - box[0], np.float64)
    size = (extent.prod() / voxels) ** (1 / 3)
    return tuple(max(4, int(n)) for n in np.floor(extent / size + 1e-6))
