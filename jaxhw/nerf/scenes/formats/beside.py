"""A COLMAP model beside a transforms.json that was made from it: it has the points, the other file has the poses."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.scenes.formats import colmap_model
from jaxhw.nerf.scenes.frames import Frame

PLACES = ("sparse/0", "colmap/sparse/0")
AWAY = 0.01  # of the extent of all cameras that one may be elsewhere in the model: files round, poses are refined


def model(folder: Path, frames: Sequence[Frame], to_capture: np.ndarray) -> tuple[Path | None, tuple[str, ...]]:
    """(the model that belongs to the frames, a line on one that is there and does not).

    Args:
      to_capture: [4, 4] from the frame of the frames' poses to COLMAP's.
    """
    path = next((folder / place for place in PLACES if _is_model(folder / place)), None)
    if path is None:
        return None, ()
    try:
        away = _away(colmap_model.images(path), frames, to_capture)
    except UserError as error:
        return None, (f"done without the points of {path}: {error}",)
    if away is None:
        return None, (f"done without the points of {path}: it has no image of those that transforms.json names",)
    if not away <= AWAY:
        return None, (
            f"done without the points of {path}: its cameras are elsewhere than those of transforms.json, by "
            f"{away:.0%} of their extent",
        )
    return path, ()


def _is_model(path: Path) -> bool:
    return any((path / f"images.{kind}").is_file() for kind in ("bin", "txt"))


def _away(images: Sequence[colmap_model.Image], frames: Sequence[Frame], to_capture: np.ndarray) -> float | None:
    """How far most cameras of one name are apart, over the extent of all; None where no name is in both."""
    theirs = {PurePosixPath(image.name).parts: image.pose[:, 3] for image in images}
    ours = np.array([frame.pose[:, 3] for frame in frames]) @ to_capture[:3, :3].T + to_capture[:3, 3]
    found = [(i, _by_name(theirs, frame.name)) for i, frame in enumerate(frames)]
    apart = [np.linalg.norm(ours[i] - position) for i, position in found if position is not None]
    if not apart:
        return None
    return float(np.median(apart) / max(np.linalg.norm(np.ptp(ours, axis=0)), 1e-12))


def _by_name(theirs: dict[tuple[str, ...], np.ndarray], name: str) -> np.ndarray | None:
    """The position of a picture, whose name in the model lacks the folder that all pictures lie in."""
    parts = PurePosixPath(name).parts
    return next((theirs[parts[i:]] for i in range(len(parts)) if parts[i:] in theirs), None)
