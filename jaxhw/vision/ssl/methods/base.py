"""What one method of self-supervised learning supplies: its heads and its loss."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxhw.errors import UserError

Array = jax.Array
SCHEDULES = ("fixed", "cosine")


@dataclass(frozen=True)
class Outputs:
    """What the networks make of v views of b images.

    Attributes:
        projections: [b, v, p] of the projector.
        predictions: [b, v, p] of the predictor, where the method has one.
        targets: [b, v, p], projections by the target network, where the method has one. They get no gradient.
    """

    projections: Array
    predictions: Array | None = None
    targets: Array | None = None


class Method(ABC):
    """Base of the methods, each a frozen dataclass whose fields are its options, ``config.method.*``.

    Attributes:
        together: whether all views of a batch go through the networks as one batch, whose statistics they share, or
            view by view, each with its own statistics; as the method's authors do.
        target: whether there is a target network, a moving average of the backbone and the projector.
    """

    together: ClassVar[bool] = True
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
        """tau in target += (1 - tau) (online - target), at a fraction ``progress`` of the run; for a target."""
        raise TypeError(f"{type(self).__name__} has a target network and does not say how it follows: define decay")


@dataclass(frozen=True)
class Momentum(Method):
    """Base of the methods with a target network: tau is fixed, or rises to 1 along half a cosine.

    The source is Grill et al. 2020, section 3.3.
    """

    tau: float = 0.99
    tau_schedule: str = "cosine"

    target = True

    def __post_init__(self):
        need(0 <= self.tau <= 1, "tau", self.tau, "between 0 and 1")
        need(self.tau_schedule in SCHEDULES, "tau_schedule", self.tau_schedule, f"one of {', '.join(SCHEDULES)}")

    def decay(self, progress: Array) -> Array | float:
        if self.tau_schedule == "fixed":
            return self.tau
        return 1 - (1 - self.tau) * (1 + jnp.cos(jnp.pi * progress)) / 2


def need(holds: bool, option: str, value, what: str) -> None:
    """Raises a UserError for an option that does not hold."""
    if not holds:
        raise UserError(f"method.{option} is {value!r}: it must be {what}")
