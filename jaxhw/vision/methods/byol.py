"""BYOL (Grill et al. 2020, arXiv:2006.07733)."""

from dataclasses import dataclass

from jaxhw.vision import contrastive
from jaxhw.vision.heads import MLP
from jaxhw.vision.methods.base import Method, Outputs, need_decay, scheduled_decay


@dataclass(frozen=True)
class BYOL(Method):
    """Each view predicts the projection that a slowly following target network makes of the other view.

    The views share their batch statistics, as in byol-pytorch; the authors' code calls the network once a view.
    """

    hidden: int = 4096
    dim: int = 256
    tau: float = 0.99
    tau_schedule: str = "cosine"

    target = True

    def __post_init__(self):
        need_decay(self.tau, self.tau_schedule)

    def heads(self, dtype):
        return {name: MLP((self.hidden, self.dim), dtype=dtype) for name in ("projector", "predictor")}

    def loss(self, outputs: Outputs):
        return contrastive.byol(outputs.predictions, outputs.targets)

    def decay(self, progress):
        return scheduled_decay(self.tau, self.tau_schedule, progress)
