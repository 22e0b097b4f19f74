"""A radiance field of its own, as a reader of docs/adding.md would add one: a small network of the position."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.nerf.fields.field import Field
from jaxhw.nerf.networks.encodings import positional_encoding
from jaxhw.nerf.rendering import losses, volume
from jaxhw.nerf.sampling import strata
from jaxhw.options import at_least, option
from jaxhw.state import Variables


@dataclasses.dataclass(frozen=True)
class Options:
    width: int = option(16, "of the hidden layer", at_least(1))
    samples: int = option(12, "along each ray", at_least(1))


@dataclasses.dataclass(frozen=True)
class Fog(Field):
    """Density and colour of the position alone, at evenly spaced samples."""

    options: Options
    near: float
    far: float

    Options = Options

    @classmethod
    def create(cls, options, setting):
        return cls(options, setting.near, setting.far)

    @property
    def network(self):
        return nn.Sequential([nn.Dense(self.options.width), nn.relu, nn.Dense(4)])

    def start(self, rng):
        return Variables(self.network.init(rng, jnp.zeros((1, 27)))["params"], {})

    def loss(self, params, state, rays, target, context):
        rendered = self.render(Variables(params, state), rays, target.background)
        error = ((rendered.colour - target.colour) ** 2).mean()
        return error, (state, {"loss": error, "psnr": losses.psnr(error)})

    def render(self, variables, rays, background):
        near = jnp.full(len(rays), self.near)
        t = strata.stratified(None, near, jnp.full_like(near, self.far), self.options.samples)
        points = rays.origins[:, None] + rays.directions[:, None] * t[..., None]
        density, colours = self.radiance(variables, points, rays.directions)
        weights, left = volume.weights_from_density(density, volume.lengths(t))
        colour = volume.composite(weights, colours, left, background)
        return volume.Rendered(colour, volume.expected_depth(weights, t), weights.sum(-1))

    def radiance(self, variables, points, directions):
        out = self.network.apply({"params": variables.params}, positional_encoding(points, 4))
        return nn.softplus(out[..., 3]), jax.nn.sigmoid(out[..., :3])
