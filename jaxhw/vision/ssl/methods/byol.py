"""BYOL (Grill et al. 2020, arXiv:2006.07733)."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.options import at_least, option
from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses
from jaxhw.vision.ssl.methods.base import Momentum, Outputs


@dataclass(frozen=True)
class BYOL(Momentum):
    """Each view predicts the projection that a slowly following target network makes of the other view.

    The views share their batch statistics, as in byol-pytorch; the authors' code calls the network once a view.
    """

    divides = True

    hidden: int = option(4096, "hidden width of projection head and predictor", at_least(1))
    dim: int = option(256, "width of projections", at_least(1))

    def heads(self, dtype: jnp.dtype) -> dict[str, nn.Module]:
        return {name: MLP((self.hidden, self.dim), dtype=dtype) for name in ("projector", "predictor")}

    def loss(self, outputs: Outputs) -> jax.Array:
        return losses.byol(outputs.predictions, outputs.targets)
