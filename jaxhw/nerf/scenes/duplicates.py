"""Frames that show a picture again: a file listed twice, or copied to another name.

One of them would be trained on while the other is held out, and the score would be that of a training picture.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxhw.nerf.scenes.frames import Frame, listed

NEAR = 0.02  # copies of one file have poses that differ by less: radians, and parts of the cameras' extent
TRAINS = {"", "train"}  # the splits that training may draw from

Same = Callable[[Frame, Frame], bool]


def unique(frames: Sequence[Frame]) -> tuple[list[Frame], tuple[str, ...]]:
    """The frames without copies, and a line that names those left out, if any.

    Of copies in one split the first stays, and a held-out copy of a training picture goes. A picture may be both in
    "val" and in "test".
    """
    extent = np.ptp([frame.pose[:, 3] for frame in frames], axis=0).max()
    digests = _digests([frame.path for frame in frames])

    # Several views of a rendered scene may show nothing at all: equal files are copies only from nearly one place.
    def nearly(a: Frame, b: Frame) -> bool:
        apart, turned = np.abs(a.pose[:, 3] - b.pose[:, 3]).max(), np.abs(a.pose[:, :3] - b.pose[:, :3]).max()
        return apart <= NEAR * extent and turned <= NEAR

    kept = _without_copies(frames, lambda frame: str(frame.path.resolve()), lambda a, b: True)
    kept = _without_copies(kept, lambda frame: digests.get(frame.path, str(frame.path)), nearly)
    stays = {id(frame) for frame in kept}
    names = [frame.name for frame in frames if id(frame) not in stays]
    if not names:
        return kept, ()
    return kept, (f"{len(names)} frames show a picture that another frame shows, and are left out: {listed(names)}",)


def _without_copies(frames: Sequence[Frame], key: Callable[[Frame], str], same: Same) -> list[Frame]:
    groups: dict[str, list[Frame]] = {}
    for frame in sorted(frames, key=lambda frame: frame.split not in TRAINS):  # those that train come first
        group = groups.setdefault(key(frame), [])
        others = {other.split for other in group if same(frame, other)}
        if not (others & TRAINS or frame.split in others):
            group.append(frame)
    kept = {id(frame) for group in groups.values() for frame in group}
    return [frame for frame in frames if id(frame) in kept]


def _digests(paths: Sequence[Path]) -> dict[Path, str]:
    """The contents of files that may be copies: only those of one length have to be read."""
    by_size: dict[int, set[Path]] = {}
    for path in paths:
        by_size.setdefault(path.stat().st_size, set()).add(path)
    alike = [path for same in by_size.values() if len(same) > 1 for path in same]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in alike}
