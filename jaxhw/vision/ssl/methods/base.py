"""What one method of self-supervised learning supplies: its heads and its loss."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.options import at_least, between, one_of, option
from jaxhw.vision.models.heads import MLP

Array = jax.Array


@dataclass(frozen=True)
class Outputs:
    """What the networks make of v views of b images.

    Attributes:
        projections: [b, v, p] of the projection head.
        predictions: [b, v, p] of the predictor, where the method has one.
        targets: [b, v, p], projections by the target network, where the method has one. They get no gradient.
    """

    projections: Array
    predictions: Array | None = None
    targets: Array | None = None


class Method(ABC):
    """Base of the methods, each a frozen dataclass whose options are ``config.method.*``.

    Attributes:
        together: whether all views of a batch go through the networks as one batch, whose statistics they share, or
            view by view, each with its own statistics; as the method's authors do.
        divides: whether the loss of a batch is the mean of its images' losses, so that `config.accumulate` may cut it.
        target: whether there is a target network, a moving average of the backbone and the projection head.
    """

    together: ClassVar[bool] = True
    divides: ClassVar[bool] = False
    target: ClassVar[bool] = False

    @abstractmethod
    def heads(self, dtype: jnp.dtype) -> dict[str, nn.Module]:
        """The modules behind the backbone in their order: "projector", then "predictor" if there is one.

        Each maps ([b, i], train) to [b, o]; dtype is that of the operands of matrix products.
        """

    @abstractmethod
    def loss(self, outputs: Outputs) -> Array:
        """[] loss of a batch."""

    def decay(self, progress: Array) -> Array | float:
        """The target network's tau in target += (1 - tau) (online - target), at a fraction ``progress`` of the run.

        Called only where ``target`` is True, of methods that must define it.
        """
        raise TypeError(f"{type(self).__name__} has a target network and does not say how it follows: define decay")


@dataclass(frozen=True)
class Momentum(Method):
    """Base of the methods with a target network (momentum encoder): an exponential moving average of the online one.

    Its decay tau is fixed, or rises to 1 along half a cosine (Grill et al. 2020, section 3.3).
    """

    tau: float = option(0.99, "decay of the target network's average, at the start", between(0, 1))
    tau_schedule: str = option("cosine", "whether tau rises to 1 over the run", one_of("fixed", "cosine"))

    target = True

    def decay(self, progress: Array) -> Array | float:
        if self.tau_schedule == "fixed":
            return self.tau
        return 1 - (1 - self.tau) * (1 + jnp.cos(jnp.pi * progress)) / 2


@dataclass(frozen=True)
class Expander(Method):
    """Base of the methods that decorrelate features: a wide projection head (VICReg's "expander"), no predictor.

    Each view goes through the networks alone, and the last layer has neither bias nor batch norm.
    """

    hidden: int = option(2048, "hidden width of the projection head", at_least(1))
    dim: int = option(2048, "width of projections", at_least(1))
    layers: int = option(3, "of the projection head", at_least(1))

    together = False

    def heads(self, dtype: jnp.dtype) -> dict[str, nn.Module]:
        return {"projector": MLP((self.hidden,) * (self.layers - 1) + (self.dim,), last="no_bias", dtype=dtype)}
