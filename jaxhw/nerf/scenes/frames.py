"""What readers of scene formats share: a posed picture as its format describes it, and how it is found and checked."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import MODELS
from jaxhw.nerf.scenes.decoding import SUFFIXES

OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0])  # camera axes: y up and z back <-> y down and z forward
LARGEST = 1_000_000  # pixels along a side that a camera may have; a damaged file says more


@dataclasses.dataclass(frozen=True)
class Lens:
    """How a picture of `size` (width, height) was projected; see `jaxhw.nerf.cameras.cameras.Cameras`."""

    size: tuple[float, float]
    focal: tuple[float, float]
    centre: tuple[float, float]
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    model: str = "PINHOLE"

    def resized(self, size: tuple[float, float]) -> Self:
        sx, sy = (new / old for new, old in zip(size, self.size, strict=True))
        (fx, fy), (cx, cy) = self.focal, self.centre
        return dataclasses.replace(self, size=size, focal=(fx * sx, fy * sy), centre=(cx * sx, cy * sy))


@dataclasses.dataclass(frozen=True)
class Frame:
    """A posed picture.

    Attributes:
      path: the file, which exists.
      name: by which frames are sorted and reported.
      pose: [3, 4] float64, camera to world, OpenCV's axes.
      split: "train", "val" or "test" where the format gives it, else "".
      mask: the file of a grey picture of the same size, black where pixels are left out; None where nothing is.
      orientation: EXIF's, 1 to 8.
      upright: whether the camera is that of the picture turned by its EXIF orientation, not of the stored pixels.
    """

    path: Path
    name: str
    pose: np.ndarray
    lens: Lens
    split: str = ""
    mask: Path | None = None
    orientation: int = 1
    upright: bool = False


@dataclasses.dataclass(frozen=True)
class Capture:
    """What a format's reader returns.

    Attributes:
      near, far: distances in the frame of the poses; None where the format has none.
      unbounded: a real capture, to be normalised; synthetic scenes keep their frame and end behind their objects.
      to_capture: [4, 4] from the frame of the poses to that of the original capture.
      root: the folder whose pictures, at any depth, all belong to the capture; None where a file lists them.
      model: COLMAP's model, whose points, in the original capture's frame, say where something is; None without one.
      notes: lines that a user should read, on what of the folder is not used.
    """

    frames: list[Frame]
    near: float | None = None
    far: float | None = None
    unbounded: bool = True
    to_capture: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(4))
    root: Path | None = None
    model: Path | None = None
    notes: tuple[str, ...] = ()


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError(f"cannot read {path}: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


class Finder:
    """Finds pictures whose names a file gives only nearly: with backslashes, another case or another suffix."""

    def __init__(self):
        self._listings: dict[Path, list[Path]] = {}

    def __call__(self, folder: Path, name: str) -> Path:
        """The picture `name` below `folder`; the path as it is written where there is none."""
        written = [folder / name, folder / name.replace("\\", "/")]
        exact = (path for path in written if is_file(path))
        return next(exact, None) or self._alike(written[-1]) or written[0]

    def _alike(self, path: Path) -> Path | None:
        """The only picture of the folder that is called so but for case, or else but for the suffix too."""
        others = self._pictures(path.parent)
        for same in (
            [p for p in others if p.name.lower() == path.name.lower()],
            [p for p in others if p.stem.lower() == path.name.lower()],  # the suffix was left out
            [p for p in others if p.stem == path.stem],
            [p for p in others if p.stem.lower() == path.stem.lower()],
        ):
            if len(same) == 1:
                return same[0]
        return None

    def _pictures(self, folder: Path) -> list[Path]:
        if folder not in self._listings:
            try:
                found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
            except (OSError, ValueError):
                found = []
            self._listings[folder] = found
        return self._listings[folder]


def is_file(path: Path) -> bool:
    """Whether a file is there; False for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name of over 255 bytes, or with a 0 in it
        return False


def existing(paths: Sequence[Path], source: Path, required: bool = True) -> list[int]:
    """Which of the pictures that `source` lists are there.

    Raises:
      UserError: none is, though that is `required`.
    """
    there = [i for i, path in enumerate(paths) if is_file(path)]
    if required and not there:
        where = f": not even {shortened(paths[0])} exists" if paths else ""
        raise UserError(f"{source} has no images{where}")
    return there


def missing(paths: Sequence[Path], there: Sequence[int], source: Path) -> tuple[str, ...]:
    """A line on the pictures that `source` lists and that are not there, if any."""
    gone = [paths[i] for i in sorted(set(range(len(paths))) - set(there))]
    if not gone:
        return ()
    return (f"{source}: skipping {len(gone)} of {len(paths)} frames, whose file is missing: {listed(gone)}",)


def listed(names: Sequence[Path | str], most: int = 5) -> str:
    """The first few names, separated by commas, for a line that a user reads."""
    return ", ".join(shortened(name) for name in names[:most]) + (", ..." if len(names) > most else "")


def shortened(name: Path | str) -> str:
    """A name that fits a line: no newlines, what is no UTF-8 as an escape, at most some 200 characters."""
    text = " ".join(str(name).encode(errors="backslashreplace").decode().split("\n"))
    return text if len(text) <= 200 else f"{text[:100]}...{text[-90:]}"


def check(frame: Frame) -> None:
    """Raises a UserError that names the frame if its camera is impossible."""
    lens, rotation = frame.lens, frame.pose[:, :3]
    if lens.model not in MODELS:
        raise UserError(
            f"{frame.name} has camera model {lens.model}, which is not supported: {', '.join(MODELS)} are; "
            "undistort the capture first: colmap image_undistorter --image_path IMAGES --input_path sparse/0 "
            "--output_path NEW_FOLDER"
        )
    if not np.isfinite(frame.pose).all() or not np.isfinite([*lens.focal, *lens.centre, *lens.distortion]).all():
        raise UserError(f"{frame.name} has a camera with numbers that are not finite: remove that frame")
    if np.abs(frame.pose).max() > 1e15 or np.abs([*lens.focal, *lens.centre, *lens.distortion]).max() > 1e9:
        raise UserError(f"{frame.name} has a camera with numbers that are too large to be meant: remove that frame")
    off = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if off > 1e-2 or np.linalg.det(rotation) < 0:
        why = "it mirrors" if off <= 1e-2 else f"its axes are off by {off:.2g} from unit length and right angles"
        raise UserError(f"{frame.name} has a pose that is not a rotation and a position: {why}")
    if min(lens.focal) <= 0:
        raise UserError(f"{frame.name} has a focal length of {min(lens.focal):g} pixels: it must be positive")
    if min(lens.size) <= 0 or max(lens.size) > LARGEST:
        raise UserError(
            f"{frame.name} has a camera of {shortened(f'{lens.size[0]} x {lens.size[1]}')} pixels: both must be "
            f"positive and at most {LARGEST}"
        )


def focal_from_angle(angle: float, pixels: int) -> float:
    """Focal length in pixels of a picture `pixels` wide that spans `angle` radians."""
    return 0.5 * pixels / math.tan(0.5 * angle) if angle else 0.0
