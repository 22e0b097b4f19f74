"""VICReg (Bardes, Ponce and LeCun 2022, arXiv:2105.04906)."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.options import at_least, option
from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses
from jaxhw.vision.ssl.methods.base import Method, Outputs


@dataclass(frozen=True)
class VICReg(Method):
    """Two views' projections agree, vary over the batch in every feature, and have uncorrelated features."""

    invariance: float = option(25.0, "weight of the invariance term", at_least(0))
    variance: float = option(25.0, "weight of the variance term", at_least(0))
    covariance: float = option(1.0, "weight of the covariance term", at_least(0))
    hidden: int = option(2048, "hidden width of the projection head", at_least(1))
    dim: int = option(2048, "width of projections", at_least(1))
    layers: int = option(3, "of the projection head", at_least(1))

    together = False

    def heads(self, dtype: jnp.dtype) -> dict[str, nn.Module]:
        return {"projector": MLP((self.hidden,) * (self.layers - 1) + (self.dim,), last="no_bias", dtype=dtype)}

    def loss(self, outputs: Outputs) -> jax.Array:
        return losses.vicreg(outputs.projections, self.invariance, self.variance, self.covariance)
