"""Which images make up which batch."""

import functools
from collections.abc import Iterator

import numpy as np


def batch_indices(seed: int, step: int, batch_size: int, n: int) -> np.ndarray:
    """The examples of training batch `step`: int64 [batch_size], a pure function of the arguments.

    Every epoch is a permutation of 0..n-1 of its own. Laid end to end they form one endless stream, of which batch
    `step` is the positions [step * batch_size, (step + 1) * batch_size). So every example is seen exactly once an
    epoch, no example is dropped, a batch may straddle epochs, and a run resumes at any step without a replay.
    """
    # The part of each epoch's permutation that the batch covers, in turn.
    position, end = step * batch_size, (step + 1) * batch_size
    pieces = []
    while position < end:
        epoch, offset = divmod(position, n)
        pieces.append(_permutation(seed, epoch, n)[offset : offset + end - position])
        position += len(pieces[-1])
    return np.concatenate(pieces)


@functools.lru_cache(maxsize=2)  # a batch straddles two epochs
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of the n examples in an epoch."""
    # Philox is counter-based: (seed, epoch) is its key, so no epoch depends on those before it.
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64))).permutation(n)


def distinct_indices(seed: int, step: int, batch_size: int, n: int) -> np.ndarray:
    """As `batch_indices`, where no example may come twice in a batch (it would be its own negative).

    Batches are cut from each epoch's permutation alone. The n % batch_size examples at its end that fill none are left
    out, others in each epoch; an epoch has n // batch_size steps, at least one.
    """
    epoch, number = divmod(step, n // batch_size)
    return _permutation(seed, epoch, n)[number * batch_size : (number + 1) * batch_size].copy()


def padded_batches(n: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Covers 0..n-1 in order for evaluation, in batches of one size.

    Yields:
        (indices int64 [batch_size], mask bool [batch_size]): the last batch is filled up with index 0, masked False.
    """
    for start in range(0, n, batch_size):
        positions = np.arange(start, start + batch_size)
        mask = positions < n
        yield np.where(mask, positions, 0), mask
