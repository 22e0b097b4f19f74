"""nerfacto's learnt functions: density and colour of the field, density of the proposals.

Names: r rays, s samples a ray, k samples of all rays. Points are those of `Region.to_unit`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxhw.nerf.fields.nerfacto.options import GRID, Options
from jaxhw.nerf.fields.nerfacto.space import Region
from jaxhw.nerf.networks import appearance, voxel_grid
from jaxhw.nerf.networks.encodings import spherical_harmonics
from jaxhw.nerf.networks.hash_grid import HashGrid
from jaxhw.nerf.networks.mlp import MLP, ColourMLP
from jaxhw.nerf.networks.tables import interpolate

PyTree = Any

HARMONICS = 16
MOST = 15.0  # an exponent beyond which the gradient of a density grows no more


@jax.custom_vjp
def trunc_exp(x: jax.Array) -> jax.Array:
    """exp(x), whose gradient is that of an x clipped to [-15, 15] (torch-ngp)."""
    return jnp.exp(x)


trunc_exp.defvjp(lambda x: (jnp.exp(x), x), lambda x, g: (g * jnp.exp(jnp.clip(x, -MOST, MOST)),))


@dataclasses.dataclass(frozen=True)
class Networks:
    """The functions by their parameters {"hash", "base", "colour", "appearance", "proposals"}.

    Attributes:
      region: of the scene, whose points are theirs.
    """

    options: Options
    region: Region

    @property
    def hash(self) -> HashGrid:
        o = self.options.hash
        return HashGrid(o.levels, o.features, o.table_size, o.coarsest, o.finest, o.layout)

    @property
    def base(self) -> MLP:
        return MLP((self.options.width, 1 + self.options.geometry))

    @property
    def colour(self) -> ColourMLP:
        o = self.options
        return ColourMLP(o.geometry, HARMONICS + o.appearance, o.colour_widths)

    def proposal_hash(self, round_: int) -> HashGrid:
        o = self.options.proposal
        return HashGrid(o.levels, 2, o.table_size, 16, o.finest[round_], o.layout)

    def start(self, rng: jax.Array, pictures: int) -> dict[str, PyTree]:
        """Parameters for the embeddings of so many pictures."""
        o, keys = self.options, jax.random.split(rng, 5)
        init = lambda network, key, *widths: jax.jit(network.init)(key, *(jnp.zeros((1, w)) for w in widths))["params"]
        params = {
            "hash": self.hash.start(keys[0]),
            "base": init(self.base, keys[1], o.hash.levels * o.hash.features),
            "colour": init(self.colour, keys[2], o.geometry, o.colour_widths[0]),
            "proposals": self._start_proposals(keys[4]),
        }
        if o.appearance:
            params["appearance"] = appearance.start(keys[3], pictures, o.appearance)
        return params

    def _start_proposals(self, rng: jax.Array) -> dict[str, PyTree]:
        o = self.options.proposal
        if o.kind == GRID:
            return {"grid": jnp.zeros((o.voxels**3, 1))}
        found = {}
        for i, key in enumerate(jax.random.split(rng, len(o.samples))):
            tables, network = jax.random.split(key)
            inputs = jnp.zeros((1, 2 * o.levels))
            found[f"round_{i}"] = {
                "hash": self.proposal_hash(i).start(tables),
                "network": MLP((o.width, 1)).init(network, inputs)["params"],
            }
        return found

    def propose(self, params: dict[str, PyTree], round_: int, points: jax.Array) -> jax.Array:
        """Densities [k] by a round's proposal at points [k, 3]; `params` is the part "proposals"."""
        o = self.options.proposal
        if o.kind == GRID:
            shape = (o.voxels,) * 3
            raw = interpolate(params["grid"], *voxel_grid.corners(points * (o.voxels - 1), shape))
        else:
            own = params[f"round_{round_}"]
            features = self.proposal_hash(round_)(own["hash"], points)
            raw = MLP((o.width, 1)).apply({"params": own["network"]}, features)
        return self.options.start_density * trunc_exp(raw[:, 0])

    def density(
        self, params: dict[str, PyTree], points: jax.Array, shares: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """(densities [k], geometry features [k, geometry]) at points [k, 3]; `shares` as in `HashGrid`."""
        features = self.hash(params["hash"], points, shares)
        raw = self.base.apply({"params": params["base"]}, features)
        return self.options.start_density * trunc_exp(raw[:, 0]), raw[:, 1:]

    def by_ray(self, params: dict[str, PyTree], directions: jax.Array, camera: jax.Array) -> jax.Array:
        """What the colour network makes of directions [r, 3] and pictures [r] of rays: [r, width]."""
        features = [spherical_harmonics((directions + 1) / 2 if self.options.shifted_directions else directions)]
        if self.options.appearance:
            features.append(appearance.of_rays(params["appearance"], camera, self.options.unknown))
        return self.colour.apply({"params": params["colour"]}, jnp.concatenate(features, -1), method="of_rays")

    def colours(self, params: dict[str, PyTree], geometry: jax.Array, by_ray: jax.Array) -> jax.Array:
        """Colours [..., 3] of geometry features [..., geometry], with `by_ray` of their rays."""
        return self.colour.apply({"params": params["colour"]}, geometry, by_ray)
