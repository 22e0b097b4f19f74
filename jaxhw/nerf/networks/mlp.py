"""The networks of radiance fields."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.nerf.networks.encodings import positional_encoding

_glorot = nn.initializers.glorot_uniform()


class NerfMLP(nn.Module):
    """The network of Mildenhall et al. 2020 (figure 7): density from the position, view-dependent colour.

    Attributes:
      width: of the hidden layers; the layer before the colour has half of it.
      depth: hidden layers before the density.
      skip: the layer (from 0) behind which the encoded position comes in again (the skip connection); none where it
        is `depth` or more.
    """

    width: int = 256
    depth: int = 8
    skip: int = 4
    position_frequencies: int = 10
    direction_frequencies: int = 4

    @nn.compact
    def __call__(
        self, positions: jax.Array, directions: jax.Array, noise: jax.Array | float = 0.0
    ) -> tuple[jax.Array, jax.Array]:
        """Positions [r, s, 3] on rays of unit directions [r, 3] -> (density [r, s] >= 0, colour [r, s, 3] in [0, 1]).

        `noise` [r, s] is added to the density before its ReLU.
        """
        shape = positions.shape[:-1]
        # The trunk sees the position alone, so that density does not depend on where one looks from.
        encoded = positional_encoding(positions.reshape(-1, 3), self.position_frequencies)
        x = encoded
        for i in range(self.depth):
            x = nn.relu(_dense(self.width, f"layer_{i}")(x))
            if i == self.skip:
                x = jnp.concatenate([encoded, x], -1)
        density = nn.relu(_dense(1, "density")(x).reshape(shape) + noise)
        # The colour's first layer sees position and direction; the direction's part is computed once a ray.
        bottleneck = _dense(self.width, "bottleneck")(x)
        encoded = positional_encoding(directions, self.direction_frequencies)
        kernel = self.param("view", _glorot, (self.width + encoded.shape[-1], self.width // 2))
        bias = self.param("view_bias", nn.initializers.zeros, (self.width // 2,))
        by_ray = encoded @ kernel[self.width :] + bias
        x = (bottleneck @ kernel[: self.width]).reshape(*shape, -1) + by_ray[:, None]
        x = nn.relu(x).reshape(-1, self.width // 2)
        return density, nn.sigmoid(_dense(3, "colour")(x)).reshape(*shape, 3)


def _dense(features: int, name: str) -> nn.Dense:
    return nn.Dense(features, kernel_init=_glorot, name=name)


class MLP(nn.Module):
    """Linear layers with ReLUs between them; weights and biases start as torch's Linear starts them.

    Attributes:
      widths: of the layers, the last of which is the output.
    """

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., channels] -> [..., widths[-1]]."""
        for i, width in enumerate(self.widths):
            x = _linear(width, x.shape[-1], f"layer_{i}")(nn.relu(x) if i else x)
        return x


class ColourMLP(nn.Module):
    """A shallow network from features of a sample and of its ray to a colour in [0, 1]: DVGO's and nerfacto's.

    The rays' part of the first layer is computed once a ray, not once a sample: rays have many samples.
    Weights start as torch's Linear starts them, the last bias at 0.

    Attributes:
      channels: of a sample's features.
      ray_channels: of its ray's: the encoded direction, and what else is known of it.
      widths: of the hidden layers.
    """

    channels: int
    ray_channels: int
    widths: Sequence[int] = (128, 128)

    def setup(self):
        inputs = self.channels + self.ray_channels
        self.kernel = self.param("kernel", _torch_uniform, (inputs, self.widths[0]), inputs)
        self.bias = self.param("bias", _torch_uniform, (self.widths[0],), inputs)

    def of_rays(self, features: jax.Array) -> jax.Array:
        """What the first layer makes of features [r, ray_channels] of rays: [r, widths[0]]."""
        return features @ self.kernel[self.channels :] + self.bias

    @nn.compact
    def __call__(self, features: jax.Array, by_ray: jax.Array) -> jax.Array:
        """Colours [..., 3] of samples: their features [..., channels], and of `of_rays` their rays' [..., widths[0]].

        Axes of `by_ray` may be 1 where samples share a ray.
        """
        x = nn.relu(features @ self.kernel[: self.channels] + by_ray)
        for i, width in enumerate(self.widths[1:]):
            x = nn.relu(_linear(width, x.shape[-1], f"layer_{i + 1}")(x))
        last = nn.Dense(3, kernel_init=lambda *a: _torch_uniform(*a[:2], x.shape[-1]), name="last")
        return nn.sigmoid(last(x))


def _linear(width: int, inputs: int, name: str) -> nn.Dense:
    start = lambda key, shape, dtype: _torch_uniform(key, shape, inputs)
    return nn.Dense(width, kernel_init=start, bias_init=start, name=name)


def _torch_uniform(key: jax.Array, shape: Sequence[int], inputs: int) -> jax.Array:
    """U(-1 / sqrt(inputs), 1 / sqrt(inputs))."""
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) / jnp.sqrt(inputs)
