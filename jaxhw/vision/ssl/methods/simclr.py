"""SimCLR (Chen et al. 2020, arXiv:2002.05709)."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.options import at_least, option
from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses
from jaxhw.vision.ssl.methods.base import Method, Outputs


@dataclass(frozen=True)
class SimCLR(Method):
    """Each view finds the other views of its image among all views of the batch, by NT-Xent.

    The authors concatenate the views before the network, so that batch statistics are theirs in common: one call.
    """

    temperature: float = option(0.5, "of NT-Xent", at_least(losses.LEAST_TEMPERATURE))
    layers: int = option(2, "of the projection head", at_least(1))
    hidden: int = option(512, "its hidden width", at_least(1))
    dim: int = option(128, "width of projections", at_least(1))
    # The authors' last layer learns its scale, not its offset.
    norm: bool = option(True, "batch norm in the projection head")

    def heads(self, dtype: jnp.dtype) -> dict[str, nn.Module]:
        widths = (self.hidden,) * (self.layers - 1) + (self.dim,)
        return {"projector": MLP(widths, self.norm, "scaled_norm" if self.norm else "bias", dtype)}

    def loss(self, outputs: Outputs) -> jax.Array:
        return losses.nt_xent(outputs.projections, self.temperature)
