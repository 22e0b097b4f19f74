"""MoCo v3 (Chen, Xie and He 2021, arXiv:2104.02057)."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.options import above, at_least, option
from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses
from jaxhw.vision.ssl.methods.base import Momentum, Outputs


@dataclass(frozen=True)
class MoCo(Momentum):
    """Each view's prediction finds its image among the momentum encoder's projections of another view of the batch."""

    temperature: float = option(0.2, "of the InfoNCE", above(0))
    hidden: int = option(4096, "hidden width of projection head and predictor", at_least(1))
    dim: int = option(256, "width of projections", at_least(1))

    together = False

    def heads(self, dtype: jnp.dtype) -> dict[str, nn.Module]:
        widths = (self.hidden, self.dim)
        # the authors' heads for ResNets: only the projection head's last batch norm stays
        return {
            "projector": MLP(widths, last="norm", dtype=dtype),
            "predictor": MLP(widths, last="no_bias", dtype=dtype),
        }

    def loss(self, outputs: Outputs) -> jax.Array:
        return losses.moco(outputs.predictions, outputs.targets, self.temperature)
