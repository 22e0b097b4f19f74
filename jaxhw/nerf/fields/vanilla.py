"""NeRF as first published: two networks along the ray, the second sampled where the first saw something.

Mildenhall et al., ECCV 2020 (arXiv 2003.08934), with jaxnerf's and the original code's details. Rays go through pixel
centres, not through pixel corners as theirs.

Names: r rays, s samples a ray, t their distances [r, s].
"""

import dataclasses
from typing import Any, Self

import flax.struct
import jax
import jax.numpy as jnp

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.field import Field, Setting, Target
from jaxhw.nerf.networks.mlp import NerfMLP
from jaxhw.nerf.rendering import losses, volume
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.sampling import strata
from jaxhw.options import at_least, option
from jaxhw.state import Variables
from jaxhw.task import Context

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Options:
    """What `config.model` may set; the defaults are the paper's for Blender's scenes."""

    width: int = option(256, "of the hidden layers", at_least(1))
    depth: int = option(8, "hidden layers before the density", at_least(1))
    skip: int = option(4, "the layer behind which the position comes in again", at_least(0))
    samples: int = option(64, "of the coarse network's rays", at_least(2))
    importance: int = option(128, "samples that the fine network sees beside the coarse one's", at_least(1))
    noise: float = option(0.0, "deviation of the noise on the density in training; 1 facing forward", at_least(0))


class _Pass(flax.struct.PyTreeNode):
    """One network's view of the rays: colour [r, 3]; weights and distances t of its samples [r, s]."""

    colour: jax.Array
    weights: jax.Array
    t: jax.Array


@dataclasses.dataclass(frozen=True)
class Vanilla(Field):
    """Two networks of one shape: the coarse one finds where to sample the fine one."""

    options: Options
    near: float
    far: float

    Options = Options
    moves_samples = True

    @classmethod
    def create(cls, options: Options, setting: Setting) -> Self:
        if setting.unbounded and setting.near_from != "format":
            raise UserError(
                "vanilla needs near and far, which this capture's format does not give; nerfacto.py learns it"
            )
        return cls(options, setting.near, setting.far)

    @property
    def rendered_near(self) -> float:
        return self.near

    @property
    def network(self) -> NerfMLP:
        return NerfMLP(self.options.width, self.options.depth, self.options.skip)

    def start(self, rng: jax.Array) -> Variables:
        keys = dict(zip(("coarse", "fine"), jax.random.split(rng), strict=True))
        points, rays = jnp.zeros((1, 1, 3)), jnp.zeros((1, 3))
        init = jax.jit(self.network.init)
        return Variables({name: init(key, points, rays)["params"] for name, key in keys.items()}, {})

    def from_saved(self, saved: Variables) -> Variables:
        return Variables(saved.params, {})  # older versions counted the steps in it

    def loss(
        self, params: PyTree, state: PyTree, rays: Rays, target: Target, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """The sum of both networks' mean squared errors (eq. 6); the PSNR is that of the fine one."""
        coarse, fine = self._render(params, rays, target.background, context.rng)
        error = ((fine.colour - target.colour) ** 2).mean()
        loss = ((coarse.colour - target.colour) ** 2).mean() + error
        return loss, (state, {"loss": loss, "psnr": losses.psnr(error)})

    def render(self, variables: Variables, rays: Rays, background: jax.Array) -> Rendered:
        """What the fine network shows, its samples at the middles of the strata."""
        _, fine = self._render(variables.params, rays, background, None)
        return Rendered(fine.colour, volume.expected_depth(fine.weights, fine.t), fine.weights.sum(-1))

    def radiance(self, variables: Variables, points: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The fine network's, each point a ray of one sample."""
        density, colours = self.network.apply({"params": variables.params["fine"]}, points[:, None], directions)
        return density[:, 0], colours[:, 0]

    def _render(self, params: PyTree, rays: Rays, background: jax.Array, rng: jax.Array | None) -> tuple[_Pass, _Pass]:
        """(the coarse network's pass, the fine one's); without a key nothing is random."""
        keys = [None] * 4 if rng is None else jax.random.split(rng, 4)
        # The coarse network sees one sample in each stratum of the ray.
        near = jnp.full(len(rays), self.near)
        t = strata.stratified(keys[0], near, jnp.full_like(near, self.far), self.options.samples)
        coarse = self._pass(params["coarse"], rays, t, background, keys[1])
        # Its weights tell where more samples are worth their price: the fine network sees those as well.
        middles = 0.5 * (t[:, 1:] + t[:, :-1])
        more = strata.importance(keys[2], middles, coarse.weights[:, 1:-1], self.options.importance)
        t = jnp.sort(jnp.concatenate([t, more], -1), -1)
        return coarse, self._pass(params["fine"], rays, t, background, keys[3])

    def _pass(self, params: PyTree, rays: Rays, t: jax.Array, background: jax.Array, rng: jax.Array | None) -> _Pass:
        """One network at samples of distances t [r, s], composited."""
        points = rays.origins[:, None] + rays.directions[:, None] * t[..., None]
        noise = 0.0 if rng is None or not self.options.noise else self.options.noise * jax.random.normal(rng, t.shape)
        density, colours = self.network.apply({"params": params}, points, rays.directions, noise)
        weights, transmittance = volume.weights_from_density(density, volume.lengths(t))
        return _Pass(volume.composite(weights, colours, transmittance, background), weights, t)
