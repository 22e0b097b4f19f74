"""The small networks on top of a backbone while it learns without labels: projectors and predictors."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.vision.models.layers import Linear
from jaxhw.vision.models.resnet import BatchNorm

LAST = ("bias", "no_bias", "norm", "scaled_norm")


class MLP(nn.Module):
    """Features [b, i] -> [b, widths[-1]]: linear, batch norm, ReLU, ..., linear.

    norm: batch norm after every layer but the last; a layer that one follows has no bias, which it would cancel.
    last: the last layer is linear with a "bias" or with "no_bias", or without bias and followed by a batch norm that
        learns no scale and offset ("norm") or a scale alone ("scaled_norm").
    """

    widths: tuple[int, ...]
    norm: bool = True
    last: str = "bias"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        *hidden, out = self.widths
        for i, width in enumerate(hidden):
            x = Linear(width, not self.norm, self.dtype, name=f"linear{i + 1}")(x)
            if self.norm:
                x = BatchNorm(name=f"bn{i + 1}")(x, train)
            x = nn.relu(x)
        x = Linear(out, self.last == "bias", self.dtype, name=f"linear{len(self.widths)}")(x)
        if self.last in ("norm", "scaled_norm"):
            x = BatchNorm(use_scale=self.last == "scaled_norm", use_bias=False, name=f"bn{len(self.widths)}")(x, train)
        return x
