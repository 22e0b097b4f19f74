"""How much of its time training gives to rendering."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SAVED = 0.5  # seconds of rendering that a still camera saves up for the next movement


class Budget:
    """Time is earned as it passes and spent by what runs within `spending`.

    A chunk may cost more than there is; then none is rendered until that is earned.

    Args:
      share: of the time that passes, in [0, 1].
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter):
        self.share, self.clock = share, clock
        self.left, self.seen = 0.0, clock()

    def has_some(self) -> bool:
        """Whether there is time left to spend now."""
        now = self.clock()
        self.left = min(self.left + self.share * (now - self.seen), SAVED)
        self.seen = now
        return self.left > 0

    @contextmanager
    def spending(self) -> Iterator[None]:
        """What runs within is paid for."""
        began = self.clock()
        try:
            yield
        finally:
            self.left -= self.clock() - began
