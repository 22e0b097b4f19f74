"""Multiresolution hash encoding (Müller et al., SIGGRAPH 2022): trilinear interpolation in grids of many resolutions.

A level is a table of rows and a rule that gives each vertex one:

- "hashed": x xor y 2654435761 xor z 805459861, modulo the table's size: instant-ngp's, on every level, as nerfstudio's
  torch code has it.
- "dense": one row a vertex on coarse levels, whose vertices fit into the table; the finer ones hashed. As published.
- "column": dense where it fits; on finer levels only x and y are hashed and z is added, so that a vertex and the next
  along z always lie side by side. A point then reads four windows of two rows, not eight rows far from each other, and
  its gradient is added in four windows. Columns meet as often as vertices did, but a whole column at a time.

Levels have an array each: their gradients are independent of each other, and XLA computes them at the same time.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.nerf.networks.tables import CORNERS, EDGES, interpolate

LAYOUTS = ("hashed", "dense", "column")
PRIMES = (1, 2654435761, 805459861)
START = 1e-3  # rows start between -START and START


@dataclasses.dataclass(frozen=True)
class HashGrid:
    """An encoding of points in [0, 1]^3; its tables are {"level_00": [rows, features], ...}.

    Attributes:
      levels: how many resolutions.
      features: of each level.
      size: rows of a hashed level, a power of two.
      coarsest, finest: cells along an edge; in between they grow by a constant factor.
      layout: one of `LAYOUTS`.
    """

    levels: int
    features: int
    size: int
    coarsest: int
    finest: int
    layout: str

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Cells along an edge of each level: floor(coarsest * growth^level), in float32 as nerfstudio has it."""
        growth = math.exp(math.log(self.finest / self.coarsest) / max(self.levels - 1, 1))
        scale = np.float32(self.coarsest) * np.float32(growth) ** np.arange(self.levels, dtype=np.float32)
        return tuple(int(n) for n in np.floor(scale))

    def kind(self, level: int) -> str:
        fits = (self.resolutions[level] + 2) ** 3 <= self.size
        return "dense" if fits and self.layout != "hashed" else "column" if self.layout == "column" else "hashed"

    def start(self, rng: jax.Array) -> dict[str, jax.Array]:
        tables = {}
        for level, key in enumerate(jax.random.split(rng, self.levels)):
            rows = (self.resolutions[level] + 2) ** 3 if self.kind(level) == "dense" else self.size
            tables[name(level)] = jax.random.uniform(key, (rows, self.features), minval=-START, maxval=START)
        return tables

    def __call__(self, tables: dict[str, jax.Array], points: jax.Array, shares: jax.Array | None = None) -> jax.Array:
        """Features [k, levels * features] of points [k, 3] in [0, 1]^3.

        Args:
          shares: [levels] in [0, 1], by which each level's features are multiplied (coarse to fine).
        """
        features = []
        for level in range(self.levels):
            read = interpolate(tables[name(level)], *self._rows(level, points))
            features.append(read if shares is None else shares[level] * read)
        return jnp.concatenate(features, -1)

    def _rows(self, level: int, points: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(rows [k, 4 or 8], fraction [k, 3]) with which points read their cell; see `tables.interpolate`."""
        scaled = points * self.resolutions[level]
        low = jnp.floor(scaled)
        fraction, low = scaled - low, low.astype(jnp.int32)
        if self.kind(level) == "hashed":
            rows = [self.hashed(low + jnp.array(corner)) for corner in CORNERS]
        else:
            rows = [self.columns(level, low[:, 0] + i, low[:, 1] + j) + low[:, 2] for i, j in EDGES]
        return jnp.stack(rows, -1), fraction

    def hashed(self, vertices: jax.Array) -> jax.Array:
        """Rows [...] of vertices [..., 3]."""
        x, y, z = (vertices[..., i].astype(jnp.uint32) * jnp.uint32(PRIMES[i]) for i in range(3))
        return ((x ^ y ^ z) & jnp.uint32(self.size - 1)).astype(jnp.int32)

    def columns(self, level: int, x: jax.Array, y: jax.Array) -> jax.Array:
        """Rows of the vertices (x, y, 0); those of (x, y, z) follow."""
        height = self.resolutions[level] + 2
        if self.kind(level) == "dense":
            return (x * height + y) * height
        # Remainders of products spread badly where y is even: the upper half of the bits is folded into the lower.
        mixed = x.astype(jnp.uint32) * jnp.uint32(PRIMES[2]) ^ y.astype(jnp.uint32) * jnp.uint32(PRIMES[1])
        mixed ^= mixed >> 15
        return (mixed % jnp.uint32(self.size - height)).astype(jnp.int32)


def name(level: int) -> str:
    return f"level_{level:02d}"
