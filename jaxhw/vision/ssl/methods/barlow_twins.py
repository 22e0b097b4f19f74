"""Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230)."""

from dataclasses import dataclass

import jax

from jaxhw.options import at_least, option
from jaxhw.vision.ssl import losses
from jaxhw.vision.ssl.methods.base import Expander, Outputs


@dataclass(frozen=True)
class BarlowTwins(Expander):
    """Two views' projections correlate feature by feature, and no feature with another: redundancy reduction."""

    redundancy: float = option(0.005, "weight of the redundancy reduction term", at_least(0))

    def loss(self, outputs: Outputs) -> jax.Array:
        return losses.barlow_twins(outputs.projections, self.redundancy)
