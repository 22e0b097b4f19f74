"""SimSiam (Chen and He 2021, arXiv:2011.10566)."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.options import at_least, option
from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses
from jaxhw.vision.ssl.methods.base import Method, Outputs


@dataclass(frozen=True)
class SimSiam(Method):
    """BYOL without a target network: each view predicts the other's projection, which is behind a stop-gradient."""

    hidden: int = option(2048, "hidden width of the projection head", at_least(1))
    dim: int = option(2048, "width of projections", at_least(1))
    layers: int = option(2, "of the projection head: 2 on CIFAR, 3 on ImageNet (their appendix D)", at_least(1))
    bottleneck: int = option(512, "the predictor's hidden width", at_least(1))

    together = False
    divides = True

    def heads(self, dtype: jnp.dtype) -> dict[str, nn.Module]:
        widths = (self.hidden,) * (self.layers - 1) + (self.dim,)
        predictor = MLP((self.bottleneck, self.dim), dtype=dtype)
        return {"projector": MLP(widths, last="norm", dtype=dtype), "predictor": predictor}

    def loss(self, outputs: Outputs) -> jax.Array:
        return losses.simsiam(outputs.predictions, outputs.projections)
