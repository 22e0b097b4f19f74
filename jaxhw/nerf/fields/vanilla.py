"""NeRF as first published: two networks along the ray, the second sampled where the first saw something.

Mildenhall et al., ECCV 2020 (arXiv 2003.08934), with jaxnerf's and the original code's details. Rays go through pixel
centres, not through pixel corners as theirs.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxhw.nerf.networks.mlp import NerfMLP
from jaxhw.nerf.rendering import losses, volume
from jaxhw.nerf.sampling import strata as sampling

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Vanilla:
    """The field; see `jaxhw.nerf.fields.registry` for what a field promises.

    Attributes:
      width, depth, skip: of `NerfMLP`.
      samples: of the coarse network's rays; the fine network sees them and `importance` more.
      noise: standard deviation of the noise on the density while training (1 for forward-facing scenes in the paper).
    """

    near: float
    far: float
    width: int = 256
    depth: int = 8
    skip: int = 4
    samples: int = 64
    importance: int = 128
    noise: float = 0.0

    metric_names = ("loss", "psnr")
    stages = ()
    chunk = 8192

    @property
    def network(self) -> NerfMLP:
        return NerfMLP(self.width, self.depth, self.skip)

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        keys = dict(zip(("coarse", "fine"), jax.random.split(rng), strict=True))
        points, rays = jnp.zeros((1, 1, 3)), jnp.zeros((1, 3))
        params = {name: self.network.init(key, points, rays)["params"] for name, key in keys.items()}
        return params, {"step": jnp.zeros((), jnp.int32)}

    def loss(
        self,
        params: PyTree,
        state: PyTree,
        rays: tuple[jax.Array, jax.Array],
        colours: jax.Array,
        background: jax.Array,
        rng: jax.Array,
        mesh: Mesh,
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """The sum of both networks' mean squared errors (eq. 6); the PSNR is that of the fine one."""
        coarse, fine, _, _ = self._see(params, *rays, background, rng)
        error = ((fine - colours) ** 2).mean()
        loss = ((coarse - colours) ** 2).mean() + error
        return loss, ({"step": state["step"] + 1}, {"loss": loss, "psnr": losses.psnr(error)})

    def render(
        self, params: PyTree, state: PyTree, origins: jax.Array, directions: jax.Array, background: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(colours [r, 3], expected depths [r], opacities [r]) of rays [r, 3], from the middles of the strata."""
        _, colours, weights, t = self._see(params, origins, directions, background, None)
        return colours, volume.expected_depth(weights, t), weights.sum(-1)

    def _see(self, params, origins, directions, background, rng: jax.Array | None):
        """Both networks' colours [r, 3], then the fine one's weights and distances [r, samples + importance]."""
        keys = [None] * 4 if rng is None else jax.random.split(rng, 4)
        near = jnp.full(len(origins), self.near)
        t = sampling.stratified(keys[0], near, jnp.full_like(near, self.far), self.samples)
        coarse, weights = self._pass(params["coarse"], origins, directions, t, background, keys[1])
        middles = 0.5 * (t[:, 1:] + t[:, :-1])
        more = sampling.importance(keys[2], middles, weights[:, 1:-1], self.importance)
        t = jnp.sort(jnp.concatenate([t, more], -1), -1)
        fine, weights = self._pass(params["fine"], origins, directions, t, background, keys[3])
        return coarse, fine, weights, t

    def _pass(self, params, origins, directions, t, background, rng: jax.Array | None):
        """Colours [r, 3] and weights [r, s] of samples at t [r, s]."""
        points = origins[:, None] + directions[:, None] * t[..., None]
        noise = 0.0 if rng is None or not self.noise else self.noise * jax.random.normal(rng, t.shape)
        density, colours = self.network.apply({"params": params}, points, directions, noise)
        weights, behind = volume.weights_from_density(density, volume.lengths(t))
        return volume.composite(weights, colours, behind, background), weights
