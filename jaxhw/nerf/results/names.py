"""Names of the files that a run writes about its pictures: made by us, inside the folder, one for each picture."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

LONGEST = 200  # bytes; a file system takes 255, of which a number and the suffix need a few
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\ud800-\udfff]')  # somewhere in a file's name; surrogates are no UTF-8


def file_names(names: Sequence[str]) -> list[str]:
    """A picture's name for each frame: "r_0.png" of "test/r_0.png", with its folders ("cam1_r_0.png") where others end
    alike, and with a number where that is not enough.

    Frames are named by the files of a capture, in which anything may stand: absolute paths, "..", or names that differ
    in their suffix or case alone.
    """
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    alike = Counter(path.stem.lower() for path in paths)
    found, taken = [], set()
    for path in paths:
        folders = () if alike[path.stem.lower()] == 1 else path.parent.parts
        wanted = _plain("_".join([*(part for part in folders if part not in ("/", "..")), path.stem]))
        made, number = wanted, 2
        while made.lower() in taken:
            made, number = f"{wanted}_{number}", number + 1
        taken.add(made.lower())
        found.append(f"{made}.png")
    return found


def _plain(stem: str) -> str:
    """What a file may be called on every system, and is not hidden."""
    allowed = FORBIDDEN.sub("_", stem).encode()[-LONGEST:]
    return allowed.decode(errors="ignore").lstrip(". ") or "picture"
