"""MoCo v3 (Chen, Xie and He 2021, arXiv:2104.02057)."""

from dataclasses import dataclass

from jaxhw.vision import contrastive
from jaxhw.vision.heads import MLP
from jaxhw.vision.methods.base import Method, Outputs, need, need_decay, scheduled_decay


@dataclass(frozen=True)
class MoCo(Method):
    """Each view's prediction finds its image among the target network's projections of another view of the batch."""

    temperature: float = 0.2
    hidden: int = 4096
    dim: int = 256
    tau: float = 0.99
    tau_schedule: str = "cosine"

    together = False
    target = True

    def __post_init__(self):
        need(self.temperature > 0, "temperature", self.temperature, "above 0")
        need_decay(self.tau, self.tau_schedule)

    def heads(self, dtype):
        widths = (self.hidden, self.dim)
        # the authors' heads for ResNets: only the projector's last batch norm stays
        return {
            "projector": MLP(widths, last="norm", dtype=dtype),
            "predictor": MLP(widths, last="no_bias", dtype=dtype),
        }

    def loss(self, outputs: Outputs):
        return contrastive.moco(outputs.predictions, outputs.targets, self.temperature)

    def decay(self, progress):
        return scheduled_decay(self.tau, self.tau_schedule, progress)
