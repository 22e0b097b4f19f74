"""Cutting a labelled set in two, and drawing a part of one, class by class."""

import math

import numpy as np

from jaxhw.errors import UserError


def split_validation(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a stratified validation split from n labelled examples; a pure function of its arguments.

    The validation split has round(fraction * n) examples. Each class gives its share rounded down, and the classes
    with the largest remainders one more, so that no class is off by more than one; the seed decides between equals.
    No class gives its last example: where that leaves too few to give one more, the split is smaller.

    Args:
        labels: int [n].
        fraction: share of the examples that goes to validation, between 0 and 1.
        seed: which examples are drawn within a class, and which of classes with equal remainders.

    Returns:
        (train_idx, val_idx): sorted int64 indices; together each of 0..n-1 once.

    Raises:
        UserError: if the fraction leaves either side empty.
    """
    labels = np.asarray(labels)
    total = round(fraction * len(labels)) if math.isfinite(fraction) else 0
    if not 0 < total < len(labels):
        raise UserError(
            f"a fraction of {fraction} cuts {len(labels)} images into {len(labels) - total} and {total}: "
            "both sides need some; use more images or another fraction"
        )
    # Each class's share, rounded down, and the order of its examples in which they are held out.
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * (total / len(labels))
    drawn = np.floor(shares).astype(int)
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(labels == c)) for c in classes]
    # What is still missing comes from the classes with the largest remainders (rounded, so that equal ones are equal
    # whatever the last bit says), in random order among equals, and never from a class with one example left.
    order = np.lexsort((rng.permutation(len(classes)), -np.round(shares - drawn, 9)))
    order = order[(drawn + 1 < counts)[order]]
    drawn[order[: total - drawn.sum()]] += 1
    if not drawn.any():
        raise UserError(
            f"none of {len(labels)} images can be held out: each is the only one of its class; use more images"
        )
    val_idx = np.sort(np.concatenate([m[:k] for m, k in zip(members, drawn, strict=True)]))
    return np.setdiff1d(np.arange(len(labels)), val_idx), val_idx


def subset(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Draws a fraction of n examples, stratified by class; a pure function of its arguments.

    Nested: for one seed, a smaller fraction is part of every larger one. Each class is within one example of its share.
    With fewer examples than classes some classes have none: the smallest, of equal ones those that the seed decides.
    Unlabelled examples (all of one label, such as -1) are drawn uniformly.

    Args:
        labels: int [n].
        fraction: share of the examples, above 0 and at most 1; round(fraction * n) are drawn.
        seed: which ones.

    Returns:
        sorted int64 indices.

    Raises:
        UserError: the fraction is out of range or leaves no example.
    """
    labels = np.asarray(labels)
    total = round(fraction * len(labels)) if 0 < fraction <= 1 else 0
    if not total:
        raise UserError(f"a fraction of {fraction} of {len(labels)} images is none: use more, at most 1")
    rng = np.random.default_rng(seed)
    # The examples in the order of their position in their class's random order, from 0 to 1: every beginning of that
    # order has of each class its share, and the beginnings of one order are nested.
    position = np.empty(len(labels))
    for c in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == c))
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(np.lexsort((rng.permutation(len(labels)), position))[:total])
