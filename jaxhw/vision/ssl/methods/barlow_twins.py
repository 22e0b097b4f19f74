"""Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230)."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.options import at_least, option
from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses
from jaxhw.vision.ssl.methods.base import Method, Outputs


@dataclass(frozen=True)
class BarlowTwins(Method):
    """Two views' projections correlate feature by feature, and no feature with another: redundancy reduction."""

    redundancy: float = option(0.005, "weight of the redundancy reduction term", at_least(0))
    hidden: int = option(2048, "hidden width of the projection head", at_least(1))
    dim: int = option(2048, "width of projections", at_least(1))
    layers: int = option(3, "of the projection head", at_least(1))

    together = False

    def heads(self, dtype: jnp.dtype) -> dict[str, nn.Module]:
        return {"projector": MLP((self.hidden,) * (self.layers - 1) + (self.dim,), last="no_bias", dtype=dtype)}

    def loss(self, outputs: Outputs) -> jax.Array:
        return losses.barlow_twins(outputs.projections, self.redundancy)
