"""Videos: mp4 files, complete or absent."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import imageio_ffmpeg
import mediapy
import numpy as np

from jaxhw import files, streams
from jaxhw.errors import UserError
from jaxhw.nerf.results.panels import to_uint8

QUALITY = 18  # H.264's constant rate factor: artefacts that one does not see


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
        for pictures in streams.bar(itertools.chain([first], frames), paths[0].name, total, "frame"):
            for add, picture in zip(adds, pictures, strict=True):
                add(picture)


@contextlib.contextmanager
def _opened(path: Path, like: np.ndarray, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Yields what adds a picture of the size of `like` to the video."""
    height, width = (side // 2 * 2 for side in like.shape[:2])
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.complete(path) as partial, mediapy.VideoWriter(partial, (height, width), fps=fps, crf=QUALITY) as writer:
        yield lambda picture: writer.add_image(to_uint8(picture)[:height, :width])
