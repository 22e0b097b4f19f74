"""BYOL (Grill et al. 2020, arXiv:2006.07733)."""

from dataclasses import dataclass

from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses as contrastive
from jaxhw.vision.ssl.methods.base import Momentum, Outputs


@dataclass(frozen=True)
class BYOL(Momentum):
    """Each view predicts the projection that a slowly following target network makes of the other view.

    The views share their batch statistics, as in byol-pytorch; the authors' code calls the network once a view.
    """

    hidden: int = 4096
    dim: int = 256

    def heads(self, dtype):
        return {name: MLP((self.hidden, self.dim), dtype=dtype) for name in ("projector", "predictor")}

    def loss(self, outputs: Outputs):
        return contrastive.byol(outputs.predictions, outputs.targets)
