"""A video or folders of photos as a folder of upright pictures, which COLMAP, nerfstudio and instant-ngp read.

Nothing of a photo's place is written: of its EXIF only the camera and the exposure are kept where it has GPS data or
where it is turned or converted. Other photos are copied as they are.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path

from jaxhw import decoding
from jaxhw.decoding import HEIF, WHITE
from jaxhw.errors import UserError
from jaxhw.nerf.capture import listing, photos, video
from jaxhw.nerf.capture.record import Frames, Kept, Rejected

__all__ = ["Frames", "Kept", "Rejected", "extract", "fingerprint"]


def extract(sources: Sequence[Path], images: Path, most: int = 300, white: int = WHITE) -> Frames:
    """Writes the pictures of a capture into a folder, and tells what became of each frame or file.

    Of a video, time is cut into `most` equal windows, and the sharpest frame of each is written as JPEG: 00001.jpg and
    so on. Of photos, all that can be read are written, with the folders that they lie in if there are several.
    If this is stopped, what had been written stays; a new call takes an empty folder.

    Args:
      sources: one video file, or one or more folders with photos.
      images: the folder to write to: empty, or not there yet.
      most: frames of a video that are kept at most, 2 or more.
      white: the value that is white in photos of 16-bit grey.

    Raises:
      UserError: the sources are not that, or hold fewer than two pictures; or `images` has files in it.
    """
    folders = _folders(sources)
    if most < 2:
        raise UserError(f"a scene takes at least two pictures, and at most {most} may be kept; let more be kept")
    images.mkdir(parents=True, exist_ok=True)
    if any(images.iterdir()):
        raise UserError(f"{images} is not empty; choose another folder for the pictures, or empty it")
    if folders:
        return photos.extract(sources, images, white)
    return video.extract(sources[0], images, most)


def fingerprint(sources: Sequence[Path]) -> str:
    """A digest of the names, sizes and times of change of all source files, to tell whether pictures are still theirs.

    It also changes when HEIC files become readable, because pillow-heif has been installed.

    Raises:
      UserError: as `extract`.
    """
    folders = _folders(sources)
    found = [(path, source) for source in sources for path in (listing.files(source) if folders else [source])]
    parts = [[os.fsencode(os.path.relpath(path, source.parent)).hex(), *_stamp(path)] for path, source in found]
    heif = any(path.suffix.lower() in HEIF for path, _ in found) and decoding.register_heif()
    return hashlib.sha256(json.dumps([parts, heif]).encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    """(size in bytes, time of the last change in nanoseconds); zeros for a link that leads nowhere."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _folders(sources: Sequence[Path]) -> bool:
    """Whether the sources are folders, rather than one video.

    Raises:
      UserError: they are neither.
    """
    for source in sources:
        if not source.exists():
            raise UserError(f"{source} does not exist; give a video file or a folder of photos")
        if not source.is_dir() and not source.is_file():
            raise UserError(f"{source} is no file; give a video file or a folder of photos")
    videos = [source for source in sources if not source.is_dir()]
    if not sources or (videos and len(sources) > 1):
        given = ", ".join(str(source) for source in sources) or "nothing"
        raise UserError(f"a capture is one video file, or one or more folders of photos; this is {given}")
    real = sorted(source.resolve() for source in sources)
    for first, second in itertools.pairwise(real):
        if second.is_relative_to(first):
            raise UserError(f"{second} lies in {first}: its photos would count twice; give one of the two")
    return not videos
