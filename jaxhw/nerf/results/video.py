"""Videos and the pictures in them: mp4 files, depth in colour, errors in colour."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import imageio_ffmpeg
import matplotlib
import mediapy
import numpy as np
from tqdm import tqdm

from jaxhw.errors import UserError

QUALITY = 18  # H.264's constant rate factor: artefacts that one does not see
WORST = 0.25  # the error, of 1, at which an error map's colours end


def write(path: Path, frames: Iterable[np.ndarray], fps: float = 30, total: int | None = None) -> None:
    """Writes one video; see `write_all`."""
    write_all([path], ((frame,) for frame in frames), fps, total)


def write_all(
    paths: Sequence[Path], frames: Iterable[Sequence[np.ndarray]], fps: float = 30, total: int | None = None
) -> None:
    """Writes H.264 mp4s side by side, a frame of each at a time; each path appears when it is complete.

    Args:
      frames: one picture [h, w, 3] for each video, uint8 or floats in [0, 1]; the first ones' sizes are the videos'.
        Odd sides lose a row or column, which the format cannot hold.
      total: their number, for the progress bar.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UserError(f"{paths[0]} would have no frames")
    mediapy.set_ffmpeg(imageio_ffmpeg.get_ffmpeg_exe())
    with contextlib.ExitStack() as stack:
        adds = [stack.enter_context(_opened(path, frame, fps)) for path, frame in zip(paths, first, strict=True)]
        for pictures in tqdm(itertools.chain([first], frames), paths[0].name, total, unit="frame"):
            for add, picture in zip(adds, pictures, strict=True):
                add(picture)


@contextlib.contextmanager
def _opened(path: Path, like: np.ndarray, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Yields what adds a picture of the size of `like` to the video."""
    height, width = (side // 2 * 2 for side in like.shape[:2])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial.mp4")
    try:
        with mediapy.VideoWriter(partial, (height, width), fps=fps, crf=QUALITY) as writer:
            yield lambda picture: writer.add_image(to_uint8(picture)[:height, :width])
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """[..., 3] floats in [0, 1], or uint8 already, to uint8."""
    picture = np.asarray(picture)
    return picture if picture.dtype == np.uint8 else np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def beside(*pictures: np.ndarray) -> np.ndarray:
    """uint8 [h, sum of w, 3] of pictures of one height, left to right."""
    return np.concatenate([to_uint8(picture) for picture in pictures], axis=1)


def depth_picture(depth: np.ndarray, opacity: np.ndarray, near: float, far: float) -> np.ndarray:
    """Depth in colour, near bright and far dark, white where there is nothing.

    Colours go with 1 / depth, so that a far background does not take the whole range.

    Args:
      depth: [h, w] distance along the ray.
      opacity: [h, w] in [0, 1].
      near, far: the depths at the ends of the colours; see `depth_range`.

    Returns:
      uint8 [h, w, 3].
    """
    near = max(near, 1e-3)
    closeness = (1 / np.maximum(depth, near) - 1 / far) / max(1 / near - 1 / far, 1e-9)
    return to_uint8(1 - opacity[..., None] * (1 - _coloured(closeness, "turbo")))


def depth_range(depth: np.ndarray, opacity: np.ndarray) -> tuple[float, float]:
    """(near, far) for `depth_picture`: all but the outermost 1 % of the depths where there is something."""
    solid = np.asarray(depth)[np.asarray(opacity) > 0.5]
    if not solid.size:
        return 1.0, 2.0
    near, far = np.percentile(solid, [1, 99])
    return float(near), float(max(far, near * 1.001))


def error_picture(picture: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3]: each pixel's mean absolute error, black for none to yellow for `WORST` and more."""
    return to_uint8(_coloured(np.abs(np.asarray(picture) - truth).mean(-1) / WORST, "inferno"))


def _coloured(values: np.ndarray, name: str) -> np.ndarray:
    return matplotlib.colormaps[name](np.clip(values, 0, 1))[..., :3]
