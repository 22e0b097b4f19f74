"""SimSiam (Chen and He 2021, arXiv:2011.10566)."""

from dataclasses import dataclass

from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses as contrastive
from jaxhw.vision.ssl.methods.base import Method, Outputs


@dataclass(frozen=True)
class SimSiam(Method):
    """BYOL without a target network: each view predicts the other's projection, which gets no gradient."""

    hidden: int = 2048
    dim: int = 2048
    layers: int = 2  # of the projector: 2 on CIFAR, 3 on ImageNet (their appendix D)
    bottleneck: int = 512  # the predictor's hidden width

    together = False

    def heads(self, dtype):
        widths = (self.hidden,) * (self.layers - 1) + (self.dim,)
        predictor = MLP((self.bottleneck, self.dim), dtype=dtype)
        return {"projector": MLP(widths, last="norm", dtype=dtype), "predictor": predictor}

    def loss(self, outputs: Outputs):
        return contrastive.simsiam(outputs.predictions, outputs.projections)
