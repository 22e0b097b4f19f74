"""The largest batch that fits."""

from collections.abc import Callable

PRECISION = 8  # the search ends where what may be missed is an eighth of what was found


def largest(room: Callable[[int], float], first: int, unit: int, most: int) -> int:
    """The largest batch that fits, to an eighth of it; 0 where none does.

    Args:
      room: the memory that there is over what a batch needs; below 1 it does not fit. Asked of each once.
      first: where to begin.
      unit: batches are multiples of it.
      most: the largest one that makes sense.
    """
    # Numbers of units: the largest that fits, the smallest that does not, and the one to try.
    top, good = most // unit, 0
    bad, number = top + 1, min(max(first // unit, 1), top)
    while good < number < bad:
        share = room(number * unit)
        if share >= 1:
            good = number
        else:
            bad = number
        number = _next(good, bad, top, share)
    return good * unit


def _next(good: int, bad: int, top: int, share: float) -> int:
    """What to try; `good` where the search ends. ``share`` is the room of what was tried last."""
    if not good:
        return bad // 2
    # Memory grows in proportion to the batch, but for the variables: so much more fits for sure, and maybe twice that.
    if bad > top:
        return min(max(int(good * share), 2 * good), top)
    middle = (good + bad) // 2
    return middle if bad - good > max(1, good // PRECISION) else good
