"""VICReg (Bardes, Ponce and LeCun 2022, arXiv:2105.04906)."""

from dataclasses import dataclass

import jax

from jaxhw.options import at_least, option
from jaxhw.vision.ssl import losses
from jaxhw.vision.ssl.methods.base import Expander, Outputs


@dataclass(frozen=True)
class VICReg(Expander):
    """Two views' projections agree, vary over the batch in every feature, and have uncorrelated features."""

    invariance: float = option(25.0, "weight of the invariance term", at_least(0))
    variance: float = option(25.0, "weight of the variance term", at_least(0))
    covariance: float = option(1.0, "weight of the covariance term", at_least(0))

    def loss(self, outputs: Outputs) -> jax.Array:
        return losses.vicreg(outputs.projections, self.invariance, self.variance, self.covariance)
