"""The roofline model (Williams, Waterman and Patterson, 2009): how fast a program can be at best.

A call takes as long as the busiest of three takes for its part, at its peak: the units that multiply, the memory, the
links to other chips. What they leave to each other, and operations other than products, come on top: a run is slower.
"""

from typing import NamedTuple

from jaxhw.plan.counts import Counts
from jaxhw.plan.topology import Chip


class Roofline(NamedTuple):
    """Seconds that each of the three takes for a call of a program."""

    compute: float
    memory: float
    interconnect: float

    @classmethod
    def of(cls, counts: Counts, chip: Chip) -> "Roofline":
        return cls(counts.flops / chip.flops, counts.hbm / chip.hbm_rate, counts.sent / chip.ici_rate)

    @property
    def seconds(self) -> float:
        """Of a call, at least."""
        return max(self)

    @property
    def bound(self) -> str:
        """Which of the three is the busiest."""
        return self._fields[self.index(self.seconds)]

    @property
    def share(self) -> float:
        """Of the peak operations a second, at most."""
        return self.compute / self.seconds
