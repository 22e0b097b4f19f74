"""Which frames train and which are held out."""

import math
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from jaxhw.errors import UserError

NAMES = ("train", "val", "test")

Parts = dict[str, np.ndarray]  # indices of frames under some of `NAMES`


def split_frames(given: Sequence[str], how: str) -> Parts:
    """Indices of n frames under "train", "val" and "test"; see `jaxhw.nerf.scenes.scene.load`.

    Args:
      given: n times the name of the split that the format gives, or "".
      how: "given", "every:K", "fraction:F" or "auto".

    Raises:
      UserError: `how` is none of these, or leaves nothing to train on or (unless "given") nothing to test.
    """
    kind, _, value = how.partition(":")
    # Each rule takes (the names given, what follows its colon) and may leave out splits that it does not make.
    split = {"auto": _auto, "given": _given, "every": _every, "fraction": _fraction}.get(kind, _unknown)(given, value)
    split = {name: np.asarray(split.get(name, ()), np.int64) for name in NAMES}
    if not split["train"].size or (not split["test"].size and not _is_given(given, kind)):
        sizes = ", ".join(f"{len(split[name])} {name}" for name in NAMES)
        raise UserError(f"split={how} makes of {len(given)} images {sizes}: more images or another split are needed")
    return split


def _is_given(given: Sequence[str], kind: str) -> bool:
    """Whether the split is the format's, which may leave nothing to test."""
    return kind == "given" or (kind == "auto" and any(given))


def _auto(given: Sequence[str], value: str) -> Parts:
    """The format's split, else nine tenths to train on, and one picture at least to test."""
    if value:
        _unknown(given, value)
    return _given(given, value) if any(given) else _fraction(given, str(min(0.9, 1 - 1.5 / len(given))))


def _given(given: Sequence[str], value: str) -> Parts:
    if not any(given) or value:
        raise UserError("split=given, but the scene gives no split of its own: set split to every:8 or fraction:0.9")
    return {name: np.flatnonzero(np.asarray(given) == name) for name in NAMES}


def _every(given: Sequence[str], value: str) -> Parts:
    if not value.isdigit() or int(value) < 2:
        _unknown(given, value)
    held_out = np.arange(len(given)) % int(value) == 0
    return {"train": np.flatnonzero(~held_out), "test": np.flatnonzero(held_out)}


def _fraction(given: Sequence[str], value: str) -> Parts:
    try:
        fraction = float(value)
    except ValueError:
        fraction = math.nan
    if not 0 < fraction < 1:
        _unknown(given, value)
    train = np.linspace(0, len(given) - 1, math.ceil(fraction * len(given)), dtype=np.int64)
    return {"train": train, "test": np.setdiff1d(np.arange(len(given)), train)}


def _unknown(given: Sequence[str], value: str) -> NoReturn:
    raise UserError(
        "config.split must be auto, given, every:K with K of at least 2, or fraction:F with F between 0 and 1"
    )
