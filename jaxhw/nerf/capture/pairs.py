"""Which pairs of pictures are matched: lists of indices (i, j) with i < j, the same ones on every machine."""

import itertools
from collections.abc import Sequence

import numpy as np

LOOP_EVERY = 10  # frames of a video, after which one is compared with all others for a place seen before
LOOP_COUNT = 20  # most alike frames that such a one is matched with


def sequential(count: int, overlap: int) -> set[tuple[int, int]]:
    """Each of `count` pictures with the `overlap` next ones, and with those 2, 4, 8, ... further on beyond that."""
    steps = [*range(1, overlap + 1), *(2**k for k in range(1, 32) if overlap < 2**k < count)]
    return {(i, i + step) for step in steps for i in range(count - step)}


def exhaustive(count: int) -> set[tuple[int, int]]:
    """All pairs."""
    return set(itertools.combinations(range(count), 2))


def loops(alike: np.ndarray) -> set[tuple[int, int]]:
    """Frames now and then with those that look most like them, wherever in the video: to close loops.

    Args:
      alike: [n, n], see `colmap_worker.likeness`.
    """
    return _most_alike(alike, range(0, len(alike), LOOP_EVERY), LOOP_COUNT)


def retrieval(alike: np.ndarray, count: int) -> set[tuple[int, int]]:
    """Each picture with the `count` that look most like it."""
    return _most_alike(alike, range(len(alike)), count)


def _most_alike(alike: np.ndarray, chosen: Sequence[int], count: int) -> set[tuple[int, int]]:
    others = np.where(np.eye(len(alike), dtype=bool), -np.inf, alike)
    best = np.argsort(-others, axis=1, kind="stable")[:, : min(count, len(alike) - 1)]
    return {(min(i, j), max(i, j)) for i in chosen for j in best[i].tolist()}
