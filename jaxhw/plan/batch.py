"""The largest batch that fits."""

from collections.abc import Callable

PRECISION = 8  # the search ends where what may be missed is an eighth of what was found


def largest(fits: Callable[[int], bool], first: int, unit: int, most: int) -> int:
    """The largest batch that fits, to an eighth of it; 0 where none does.

    Args:
      fits: whether a batch does; asked of each once.
      first: where to begin.
      unit: batches are multiples of it.
      most: the largest one that makes sense.
    """
    top, tried = most // unit, lambda number: fits(number * unit)
    if not top:
        return 0
    # Doubling or halving, until one fits (good) and one does not (bad).
    good = bad = min(max(first // unit, 1), top)
    if tried(good):
        while good < top and tried(bad := min(2 * good, top)):
            good = bad
        if good == top:
            return top * unit
    else:
        while (good := bad // 2) and not tried(good):
            bad = good
    # Halving what lies between.
    while good and bad - good > max(1, good // PRECISION):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if tried(middle) else (good, middle)
    return good * unit
