"""How large the pictures of a scene are learnt: by a factor that the user gives, or as large as fits."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from jaxhw import options
from jaxhw.errors import UserError

AUTO = "auto"
# Of all pictures together, where `downscale` is auto. A run of a quarter of an hour on two CPU cores draws 12 million
# rays: of more pixels most would never be looked at. A pixel takes 3 bytes, and as many again in training.
MAX_PIXELS = 20_000_000


class Wanted(NamedTuple):
    """What the user wants: `factor` times smaller, or 0 for as large as `max_pixels` allow."""

    factor: int
    max_pixels: int

    @classmethod
    def checked(cls, downscale: int | str, max_pixels: int) -> Self:
        """From the values of a config.

        Raises:
          UserError: `downscale` is neither "auto" nor a whole number of at least 1, or `max_pixels` is none.
        """
        if isinstance(downscale, str) and downscale != AUTO:
            raise UserError(f"config.downscale={downscale!r} must be a whole number of at least 1, or {AUTO}")
        if downscale != AUTO:
            options.require("config.downscale", downscale, options.at_least(1), kind=int)
            return cls(downscale, max_pixels)
        options.require("config.max_pixels", max_pixels, options.at_least(1), kind=int)
        return cls(0, max_pixels)

    def downscale(self, on_disk: np.ndarray, names: Sequence[str]) -> tuple[int, tuple[str, ...]]:
        """(by how much to downscale pictures of sizes [n, 2], a line for the user where that was chosen here).

        Raises:
          UserError: nothing would be left of a picture; the message has its name.
        """
        factor = self.factor or _largest_that_fits(on_disk, self.max_pixels)
        size = on_disk // factor
        gone = np.flatnonzero(size.min(1) < 1)
        if len(gone):
            (width, height), name = on_disk[gone[0]], names[gone[0]]
            why = f"downscale={factor}" if self.factor else f"max_pixels={self.max_pixels}"
            raise UserError(f"config.{why} leaves nothing of {name}, which is {width} x {height} pixels")
        if self.factor:
            return factor, ()
        (width, height), total = np.median(size, 0).astype(int), size.prod(1).sum()
        line = (
            f"downscale=auto is {factor}: pictures of {width} x {height} pixels, {total:,} in all "
            f"(at most max_pixels={self.max_pixels:,})"
        )
        return factor, (line,)


def _largest_that_fits(on_disk: np.ndarray, max_pixels: int) -> int:
    """The smallest factor that leaves pictures of sizes [n, 2] at most so many pixels together."""
    factor = 1
    while (on_disk // factor).prod(1).sum() > max_pixels:
        factor += 1
    return factor
