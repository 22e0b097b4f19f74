"""What a scene's folder holds and what of it is used, in single lines on stderr before training begins."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxhw.nerf.scenes.decoding import SUFFIXES
from jaxhw.nerf.scenes.frames import Capture, Frame, listed


def say(line: str) -> None:
    """One line on stderr, by one of several processes."""
    if jax.process_index() == 0:
        print(" ".join(line.split("\n")), file=sys.stderr)


def summary(folder: Path, frames: Sequence[Frame], parts: Mapping[str, np.ndarray], capture: Capture) -> None:
    """Pictures found, posed, used and held out.

    Args:
      frames: those of the capture that show no picture again.
    """
    posed = {frame.path.resolve() for frame in capture.frames}
    found = posed | {path.resolve() for path in _pictures(capture)}
    without = sorted(path.name for path in found - posed)
    used = sum(len(rows) for rows in parts.values())
    split = ", ".join(f"{len(rows)} {name}" for name, rows in parts.items())
    line = f"{folder}: {len(found)} pictures found, {len(posed)} posed, {used} used: {split}"
    if masked := sum(frame.mask is not None for frame in frames):
        line += f"; {masked} with a mask"
    if without:
        line += f"; without a pose are {len(without)}: {listed(without)}"
    if unused := sorted(set(range(len(frames))) - set(np.concatenate(list(parts.values())).tolist())):
        line += f"; in no split are {len(unused)}: {listed([frames[i].name for i in unused])}"
    say(line)


def _pictures(capture: Capture) -> Iterable[Path]:
    """All pictures below the capture's root, or in the folders of its frames; masks are none.

    A rendered scene has depths and normals beside its pictures, which nobody left out.
    """
    if not capture.unbounded:
        return ()
    if capture.root is not None:
        return (path for path in capture.root.rglob("*") if path.suffix.lower() in SUFFIXES)
    masks = {frame.mask for frame in capture.frames}
    folders = {frame.path.parent for frame in capture.frames}
    return (p for f in folders for p in f.iterdir() if p.suffix.lower() in SUFFIXES and p not in masks)
