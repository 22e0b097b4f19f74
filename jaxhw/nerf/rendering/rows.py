"""Functions of many rows (points, rays) over all devices: one program, however many rows there are."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxhw import mesh as meshes
from jaxhw import streams

PyTree = Any


class Rows:
    """`rows(shared, arrays, what) -> arrays` of the host, each with a row for each row of `arrays`.

    Args:
      function: (shared, arrays [c, ...]) -> arrays [c, ...], row by row; traced.
      chunk: rows that a device works on at a time, so that memory does not grow with their number.
    """

    def __init__(self, function: Callable[[PyTree, PyTree], PyTree], mesh: Mesh, chunk: int):
        self.size = chunk * mesh.size
        rows, everywhere = meshes.by_row(mesh).spec, PartitionSpec()
        # Nothing crosses devices, so there is nothing for the check of replication to find.
        mapped = jax.shard_map(function, mesh=mesh, in_specs=(everywhere, rows), out_specs=rows, check_vma=False)
        self._function = jax.jit(mapped, out_shardings=meshes.replicated(mesh))

    def __call__(self, shared: PyTree, arrays: PyTree, what: str) -> PyTree:
        """Calls the function on chunks of host arrays [k, ...], k > 0; the last is filled up with its last row.

        Args:
          shared: arrays that every row sees.
          what: is computed, for the progress bar.
        """
        count = len(jax.tree.leaves(arrays)[0])
        starts = range(0, count, self.size)
        found = [self._chunk(shared, arrays, start, count) for start in streams.bar(starts, what, len(starts), "chunk")]
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *found)

    def _chunk(self, shared: PyTree, arrays: PyTree, start: int, count: int) -> PyTree:
        index = np.minimum(np.arange(start, start + self.size), count - 1)
        return jax.device_get(self._function(shared, jax.tree.map(lambda a: a[index], arrays)))
