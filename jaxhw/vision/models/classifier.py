"""What stands between a backbone's features and the classes' logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.vision.models.layers import Linear

HEADS = ("linear", "mlp")


class MLPHead(nn.Module):
    """Features [b, d] -> linear to [b, d], ReLU, linear to logits [b, num_classes]."""

    num_classes: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(Linear(x.shape[-1], dtype=self.dtype, name="linear1")(x))
        return Linear(self.num_classes, dtype=self.dtype, name="linear2")(x)


def head(kind: str, num_classes: int, dtype: jnp.dtype) -> nn.Module:
    """The module "head" of a model, to be made in its compact method; `kind` is one of HEADS."""
    return {"linear": Linear, "mlp": MLPHead}[kind](num_classes, dtype=dtype, name="head")
