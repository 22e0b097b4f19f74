"""SimCLR (Chen et al. 2020, arXiv:2002.05709)."""

from dataclasses import dataclass

from jaxhw.vision.models.heads import MLP
from jaxhw.vision.ssl import losses as contrastive
from jaxhw.vision.ssl.methods.base import Method, Outputs, need


@dataclass(frozen=True)
class SimCLR(Method):
    """Each view finds the other views of its image among all views of the batch.

    The authors concatenate the views before the network, so that batch statistics are theirs in common: one call.
    """

    temperature: float = 0.5
    layers: int = 2  # of the projector
    hidden: int = 512
    dim: int = 128
    norm: bool = True  # batch norm in the projector; the authors' last layer learns its scale, not its offset

    def __post_init__(self):
        least = contrastive.LEAST_TEMPERATURE
        need(self.temperature >= least, "temperature", self.temperature, f"at least {least}")

    def heads(self, dtype):
        widths = (self.hidden,) * (self.layers - 1) + (self.dim,)
        return {"projector": MLP(widths, self.norm, "scaled_norm" if self.norm else "bias", dtype)}

    def loss(self, outputs: Outputs):
        return contrastive.nt_xent(outputs.projections, self.temperature)
