"""Picture files of a scene: as their pixels are stored, or turned upright.

EXIF's orientation says how a camera was held. Calibrations are for the pixels as they are stored (COLMAP ignores EXIF)
or for the upright picture, so nothing here turns a picture unless its caller says `upright`.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxhw import decoding
from jaxhw.decoding import TURNED, Levels, open_picture

# What pictures are called. Suffixes in capitals count as well.
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")


def orientation(path: Path) -> int:
    """EXIF's orientation of a picture, 1 to 8; 1 where there is none."""
    return open_picture(path, _orientation)


def picture_size(path: Path, upright: bool = False) -> tuple[int, int]:
    """(width, height) from the file's header."""

    def size(image: Image.Image) -> tuple[int, int]:
        width, height = decoding.stored_size(image)
        return (height, width) if upright and _orientation(image) in TURNED else (width, height)

    return open_picture(path, size)


def has_transparency(path: Path) -> bool:
    return open_picture(path, lambda image: image.has_transparency_data)


def read_picture(path: Path, downscale: int, upright: bool = False, levels: Levels | None = None) -> np.ndarray:
    """uint8 [h, w, 3], or [h, w, 4] if the file has transparency: each pixel is the mean of downscale x downscale ones.

    Means are weighted with alpha: the same as blending with a background first. A remainder at the right and lower edge
    is cut off. 16-bit grey becomes 8 bits as `levels` says, its upper 8 where there are none.
    """

    def decode(image: Image.Image) -> np.ndarray:
        held = _orientation(image)
        image = decoding.upright(image, held) if upright else decoding.as_stored(image, held)
        image = (levels or Levels()).to_8_bits(image)
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        whole = (0, 0, *(side // downscale * downscale for side in image.size))
        return np.asarray(image.reduce(downscale, whole) if downscale > 1 else image)

    return open_picture(path, decode)


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and not image.info.keys() & {"exif", "Raw profile type exif"}:
        return 1  # Pillow would decode all of the picture to look for EXIF behind it
    return decoding.orientation(image)
