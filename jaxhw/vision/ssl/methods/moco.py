"""MoCo v3 (Chen, Xie and He 2021, arXiv:2104.02057)."""

from dataclasses import dataclass

from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses as contrastive
from jaxhw.vision.ssl.methods.base import Momentum, Outputs, need


@dataclass(frozen=True)
class MoCo(Momentum):
    """Each view's prediction finds its image among the target network's projections of another view of the batch."""

    temperature: float = 0.2
    hidden: int = 4096
    dim: int = 256

    together = False

    def __post_init__(self):
        super().__post_init__()
        need(self.temperature > 0, "temperature", self.temperature, "above 0")

    def heads(self, dtype):
        widths = (self.hidden, self.dim)
        # the authors' heads for ResNets: only the projector's last batch norm stays
        return {
            "projector": MLP(widths, last="norm", dtype=dtype),
            "predictor": MLP(widths, last="no_bias", dtype=dtype),
        }

    def loss(self, outputs: Outputs):
        return contrastive.moco(outputs.predictions, outputs.targets, self.temperature)
