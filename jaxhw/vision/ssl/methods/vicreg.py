"""VICReg (Bardes, Ponce and LeCun 2022, arXiv:2105.04906)."""

from dataclasses import dataclass

from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses as contrastive
from jaxhw.vision.ssl.methods.base import Method, Outputs, need


@dataclass(frozen=True)
class VICReg(Method):
    """Two views' projections agree, vary over the batch in every feature, and have uncorrelated features."""

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    hidden: int = 2048
    dim: int = 2048
    layers: int = 3

    together = False

    def __post_init__(self):
        for name in ("invariance", "variance", "covariance"):
            need(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")

    def heads(self, dtype):
        return {"projector": MLP((self.hidden,) * (self.layers - 1) + (self.dim,), last="no_bias", dtype=dtype)}

    def loss(self, outputs: Outputs):
        return contrastive.vicreg(outputs.projections, self.invariance, self.variance, self.covariance)
