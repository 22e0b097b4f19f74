"""Fog whose samples move and that learns a tint for each training picture: what refinement and halves are tried on."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.nerf.networks.encodings import positional_encoding
from jaxhw.nerf.rendering import losses, volume
from jaxhw.nerf.sampling import strata
from jaxhw.state import Variables
from tests.nerf.fields.fog import Fog


@dataclasses.dataclass(frozen=True)
class Tinted(Fog):
    """Fog sampled at random, each picture's colours shifted by its row of "tint", or by the mean of the rows."""

    count: int = 0

    moves_samples = True
    per_picture = ("tint",)

    @classmethod
    def create(cls, options, setting):
        return cls(options, setting.near, setting.far, len(setting.cameras))

    def start(self, rng):
        return Variables({"fog": super().start(rng).params, "tint": jnp.zeros((self.count, 3))}, {})

    def loss(self, params, state, rays, target, context):
        rendered = self._render(params, rays, target.background, context.rng)
        error = ((rendered.colour - target.colour) ** 2).mean()
        return error, (state, {"loss": error, "psnr": losses.psnr(error)})

    def render(self, variables, rays, background):
        return self._render(variables.params, rays, background, None)

    def _render(self, params, rays, background, rng):
        near = jnp.full(len(rays), self.near)
        t = strata.stratified(rng, near, jnp.full_like(near, self.far), self.options.samples)
        points = rays.origins[:, None] + rays.directions[:, None] * t[..., None]
        out = self.network.apply({"params": params["fog"]}, positional_encoding(points, 4))
        weights, left = volume.weights_from_density(nn.softplus(out[..., 3]), volume.lengths(t))
        tint = params["tint"]
        own = jnp.where(rays.camera[:, None] < 0, tint.mean(0), tint[jnp.maximum(rays.camera, 0)])
        colours = jax.nn.sigmoid(out[..., :3] + own[:, None])
        colour = volume.composite(weights, colours, left, background)
        return volume.Rendered(colour, volume.expected_depth(weights, t), weights.sum(-1))
