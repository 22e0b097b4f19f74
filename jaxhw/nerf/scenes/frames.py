"""What readers of scene formats share: a posed picture as its format describes it, how it is checked and read."""

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from PIL import Image  # pycolmap must come after it: imported first, it makes PIL's PNG writer abort the process

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import MODELS

T = TypeVar("T")

OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0])  # camera axes: y up and z back <-> y down and z forward


@dataclasses.dataclass(frozen=True)
class Lens:
    """How a picture of `size` (width, height) was projected; see `jaxhw.nerf.cameras.cameras.Cameras`."""

    size: tuple[float, float]
    focal: tuple[float, float]
    centre: tuple[float, float]
    distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
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
    """

    path: Path
    name: str
    pose: np.ndarray
    lens: Lens
    split: str = ""
    mask: Path | None = None


@dataclasses.dataclass(frozen=True)
class Capture:
    """What a format's reader returns.

    Attributes:
      near, far: distances in the frame of the poses; None where the format has none.
      unbounded: a real capture, to be normalised; synthetic scenes keep their frame and have near and far.
      to_capture: [4, 4] from the frame of the poses to that of the original capture.
    """

    frames: list[Frame]
    near: float | None = None
    far: float | None = None
    unbounded: bool = True
    to_capture: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(4))


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def existing(paths: Sequence[Path], source: Path) -> list[int]:
    """Which of the pictures that `source` lists are there; names the others in one line.

    Raises:
      UserError: none is.
    """
    missing = [path for path in paths if not path.is_file()]
    if len(missing) == len(paths):
        where = f": not even {missing[0]} exists" if missing else ""
        raise UserError(f"{source} has no images{where}")
    if missing:
        names = ", ".join(str(path) for path in missing[:5]) + (", ..." if len(missing) > 5 else "")
        print(
            f"{source}: skipping {len(missing)} of {len(paths)} frames, whose file is missing: {names}", file=sys.stderr
        )
    return [i for i, path in enumerate(paths) if path.is_file()]


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) from the file's header."""
    return open_picture(path, lambda image: image.size)


def has_transparency(path: Path) -> bool:
    return open_picture(path, lambda image: image.has_transparency_data)


def read_picture(path: Path, downscale: int) -> np.ndarray:
    """uint8 [h, w, 3], or [h, w, 4] if the file has transparency: each pixel is the mean of downscale x downscale ones.

    Means are weighted with alpha: the same as blending with a background first. A remainder at the right and lower edge
    is cut off.
    """

    def decode(image: Image.Image) -> np.ndarray:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        whole = (0, 0, *(side // downscale * downscale for side in image.size))
        return np.asarray(image.reduce(downscale, whole) if downscale > 1 else image)

    return open_picture(path, decode)


def check(frame: Frame) -> None:
    """Raises a UserError that names the frame if its camera is impossible."""
    lens, rotation = frame.lens, frame.pose[:, :3]
    if lens.model not in MODELS:
        raise UserError(f"{frame.name} has camera model {lens.model}, which is not supported: {', '.join(MODELS)} are")
    if not np.isfinite(frame.pose).all() or not np.isfinite([*lens.focal, *lens.centre, *lens.distortion]).all():
        raise UserError(f"{frame.name} has a camera with numbers that are not finite: remove that frame")
    off = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if off > 1e-2 or np.linalg.det(rotation) < 0:
        why = "it mirrors" if off <= 1e-2 else f"its axes are off by {off:.2g} from unit length and right angles"
        raise UserError(f"{frame.name} has a pose that is not a rotation and a position: {why}")
    if min(lens.focal) <= 0:
        raise UserError(f"{frame.name} has a focal length of {min(lens.focal):g} pixels: it must be positive")
    if min(lens.size) <= 0:
        raise UserError(f"{frame.name} has a camera of {lens.size[0]} x {lens.size[1]} pixels: both must be positive")


def focal_from_angle(angle: float, pixels: int) -> float:
    """Focal length in pixels of a picture `pixels` wide that spans `angle` radians."""
    return 0.5 * pixels / math.tan(0.5 * angle) if angle else 0.0


def open_picture(path: Path, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the opened file; whatever goes wrong becomes a UserError that names it."""
    try:
        with Image.open(path) as image:
            return use(image)
    except Exception as error:  # a damaged file makes PIL raise nearly anything
        raise UserError(f"cannot read image {path}: {str(error) or type(error).__name__}") from error
