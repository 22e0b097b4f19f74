"""The networks of radiance fields."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

_glorot = nn.initializers.glorot_uniform()


def positional_encoding(x: jax.Array, frequencies: int) -> jax.Array:
    """x, sin(2^i x), cos(2^i x) for i < `frequencies`: [..., c] -> [..., c (1 + 2 frequencies)].

    Mildenhall et al. 2020, eq. 4, as their code has it: with x itself and without pi. Each angle comes from the one
    before by doubling: faster, and right to 5e-5 at the tenth frequency (errors double too).
    """
    sines, cosines = [jnp.sin(x)], [jnp.cos(x)]
    for _ in range(frequencies - 1):
        s, c = sines[-1], cosines[-1]
        sines.append(2 * s * c)
        cosines.append((c - s) * (c + s))
    return jnp.concatenate([x, *sines, *cosines], -1)


class NerfMLP(nn.Module):
    """The network of Mildenhall et al. 2020 (figure 7): density from the position, colour from the direction as well.

    Attributes:
      width: of the hidden layers; the layer before the colour has half of it.
      depth: hidden layers before the density.
      skip: the layer (from 0) behind which the encoded position comes in again; none where it is `depth` or more.
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

        `noise` [r, s] is added to the density before its ReLU. The directions' part of the colour's first layer is
        computed once a ray.
        """
        shape = positions.shape[:-1]
        encoded = positional_encoding(positions.reshape(-1, 3), self.position_frequencies)
        x = encoded
        for i in range(self.depth):
            x = nn.relu(_dense(self.width, f"layer_{i}")(x))
            if i == self.skip:
                x = jnp.concatenate([encoded, x], -1)
        density = nn.relu(_dense(1, "density")(x).reshape(shape) + noise)
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


class ColourMLP(nn.Module):
    """DVGO's shallow network: features of a sample and its ray's encoded direction to a colour in [0, 1].

    The directions' part of the first layer is computed once a ray, not once a sample: rays have many samples.
    Weights start as torch's Linear starts them, the last bias at 0.

    Attributes:
      channels: of the features.
      widths: of the hidden layers.
    """

    channels: int
    widths: Sequence[int] = (128, 128)
    direction_frequencies: int = 4

    def setup(self):
        inputs = self.channels + 3 * (1 + 2 * self.direction_frequencies)
        self.kernel = self.param("kernel", _torch_uniform, (inputs, self.widths[0]), inputs)
        self.bias = self.param("bias", _torch_uniform, (self.widths[0],), inputs)

    def by_ray(self, directions: jax.Array) -> jax.Array:
        """What the first layer makes of directions [r, 3]: [r, widths[0]]."""
        encoded = positional_encoding(directions, self.direction_frequencies)
        return encoded @ self.kernel[self.channels :] + self.bias

    @nn.compact
    def __call__(self, features: jax.Array, by_ray: jax.Array, ray: jax.Array) -> jax.Array:
        """features [k, channels] of samples on rays `ray` [k] of `by_ray`'s -> [k, 3]."""
        x = nn.relu(features @ self.kernel[: self.channels] + by_ray[ray])
        for i, width in enumerate(self.widths[1:]):
            x = nn.relu(self._layer(width, x.shape[-1], f"layer_{i + 1}")(x))
        last = nn.Dense(3, kernel_init=lambda *a: _torch_uniform(*a[:2], x.shape[-1]), name="last")
        return nn.sigmoid(last(x))

    def _layer(self, width: int, inputs: int, name: str) -> nn.Dense:
        start = lambda key, shape, dtype: _torch_uniform(key, shape, inputs)
        return nn.Dense(width, kernel_init=start, bias_init=start, name=name)


def _torch_uniform(key: jax.Array, shape: Sequence[int], inputs: int) -> jax.Array:
    """U(-1 / sqrt(inputs), 1 / sqrt(inputs))."""
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) / jnp.sqrt(inputs)
