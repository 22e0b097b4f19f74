"""Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230)."""

from dataclasses import dataclass

from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses as contrastive
from jaxhw.vision.ssl.methods.base import Method, Outputs, need


@dataclass(frozen=True)
class BarlowTwins(Method):
    """Two views' projections correlate feature by feature, and no feature with another."""

    redundancy: float = 0.005
    hidden: int = 2048
    dim: int = 2048
    layers: int = 3

    together = False

    def __post_init__(self):
        need(self.redundancy >= 0, "redundancy", self.redundancy, "at least 0")

    def heads(self, dtype):
        return {"projector": MLP((self.hidden,) * (self.layers - 1) + (self.dim,), last="no_bias", dtype=dtype)}

    def loss(self, outputs: Outputs):
        return contrastive.barlow_twins(outputs.projections, self.redundancy)
