"""Which files beneath a folder are pictures: whatever Pillow can read, whatever it is called and however deep it lies.

Nothing is left out silently: a file that is no picture is counted with the reason.
"""

import functools
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from jaxhw.decoding import HEIF, register_heif

VECTOR = ("EPS", "PDF", "WMF")  # formats that Pillow opens with other programs, or writes only


class Listing(NamedTuple):
    """Pictures, sorted by path, and how many files were left out for which reason."""

    pictures: list[Path]
    left_out: Counter[str]


def list_pictures(folder: Path) -> Listing:
    """The pictures in a folder and in the folders below it; hidden files and folders do not count at all."""
    pictures, left_out = [], Counter()
    for path in _files(folder):
        if reason := _why_not(path):
            left_out[reason] += 1
        else:
            pictures.append(path)
    return Listing(sorted(pictures), left_out)


def _files(folder: Path) -> list[Path]:
    """All files below a folder, links followed, each folder once."""
    found, visited = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return found


def _why_not(path: Path) -> str:
    """Why a file is no picture, else an empty string. A file of an unknown suffix, or of none, is opened to see."""
    suffix = path.suffix.lower()
    if suffix in HEIF:
        return "" if register_heif() else "HEIC, which takes `pip install pillow-heif`"
    if suffix in readable_suffixes():
        return ""
    try:
        with Image.open(path) as image:
            return "no picture" if image.format in VECTOR else ""
    except Exception:  # a damaged file makes PIL raise nearly anything
        return "no picture"


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """The suffixes of the formats that Pillow reads by itself."""
    formats = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in formats if name in Image.OPEN and name not in VECTOR)
