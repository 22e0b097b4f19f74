"""The small networks on top of a backbone: projection heads, predictors and classification heads."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.vision.models.layers import Linear
from jaxhw.vision.models.norms import BatchNorm

LAST = ("bias", "no_bias", "norm", "scaled_norm")
CLASSIFICATION_HEADS = ("linear", "mlp")


class MLP(nn.Module):
    """A projection head or predictor, features [b, i] -> [b, widths[-1]]: linear, batch norm, ReLU, ..., linear.

    A projection head ("projector") maps the backbone's features to the space of a self-supervised loss and is thrown
    away after pre-training (Chen et al. 2020); a predictor maps projections of one view to those of another (Grill et
    al. 2020).

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
        # Hidden layers: linear, batch norm, ReLU.
        *hidden, out = self.widths
        for i, width in enumerate(hidden):
            x = Linear(width, not self.norm, self.dtype, name=f"linear{i + 1}")(x)
            if self.norm:
                x = BatchNorm(name=f"bn{i + 1}")(x, train)
            x = nn.relu(x)
        # The last layer, without ReLU: projections may point in every direction.
        x = Linear(out, self.last == "bias", self.dtype, name=f"linear{len(self.widths)}")(x)
        if self.last in ("norm", "scaled_norm"):
            x = BatchNorm(use_scale=self.last == "scaled_norm", use_bias=False, name=f"bn{len(self.widths)}")(x, train)
        return x


class MLPHead(nn.Module):
    """Features [b, d] -> linear to [b, d], ReLU, linear to logits [b, num_classes]."""

    num_classes: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(Linear(x.shape[-1], dtype=self.dtype, name="linear1")(x))
        return Linear(self.num_classes, dtype=self.dtype, name="linear2")(x)


def classification_head(kind: str, num_classes: int, dtype: jnp.dtype) -> nn.Module:
    """The module "head" of a model, to be made in its compact method; `kind` is one of CLASSIFICATION_HEADS."""
    return {"linear": Linear, "mlp": MLPHead}[kind](num_classes, dtype=dtype, name="head")
