"""Picture files: opened with one line for whatever is wrong, turned upright, 8 bits a channel; for both wings."""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from PIL import Image

from jaxhw.errors import UserError, warn
from jaxhw.options import between

T = TypeVar("T")

WHITE = 65535  # what is white in pictures of 16 bits, where nothing says otherwise
CAN_BE_WHITE = between(255, WHITE)

# Pillow refuses to open pictures of more than 179 megapixels; here a JPEG may be read in reduced form first.
MOST_PIXELS = 178_956_970
Image.MAX_IMAGE_PIXELS = None

HEIF = (".heic", ".heif")
ORIENTATION = 0x0112  # EXIF's tag: 1 for an upright picture, 6 and 8 for quarter turns, 5 and 7 with a reflection
TURNED = (5, 6, 7, 8)  # orientations whose upright picture has width and height exchanged
TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TO_STORED = TO_UPRIGHT | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # the others undo themselves
TIFF_WIDTH, TIFF_HEIGHT = 256, 257  # tags


def open_picture(path: Path, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the opened file.

    Raises:
      UserError: it cannot be read, or is too large; the message names it.
    """
    try:
        if path.suffix.lower() in HEIF and not register_heif():
            raise ValueError("reading HEIC takes pillow-heif: pip install pillow-heif, or save it as JPEG")
        with Image.open(path) as image:
            _limit(image)
            return use(image)
    except Exception as error:  # a damaged file makes PIL raise nearly anything, from SyntaxError to struct.error
        reason = " ".join((str(error) or type(error).__name__).split())
        raise UserError(f"cannot read image {path}: {reason}") from error


def _limit(image: Image.Image) -> None:
    """Has a JPEG of too many pixels decoded at a half, a quarter or an eighth of its size; refuses other pictures."""
    width, height = image.size
    part = next((part for part in (1, 2, 4, 8) if width * height <= part**2 * MOST_PIXELS), 1)
    if part > 1:
        image.draft("RGB", (width // part, height // part))
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, more than {MOST_PIXELS:,}: save it smaller")


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none, or broken EXIF, which says nothing of the pixels."""
    value = 1
    with contextlib.suppress(Exception):
        value = image.getexif().get(ORIENTATION, 1)
    return value if value in TO_UPRIGHT else 1


def upright(image: Image.Image, held: int = 0) -> Image.Image:
    """A picture that was just opened, turned as its EXIF orientation says, and nothing else of the EXIF read.

    Args:
      held: the orientation, where the caller knows it.
    """
    held = held or orientation(image)
    turn = None if _is_turned_by_loading(image, held) else TO_UPRIGHT.get(held)
    return image if turn is None else image.transpose(turn)


def as_stored(image: Image.Image, held: int = 0) -> Image.Image:
    """A picture that was just opened, with its pixels as they lie in the file; see `upright`."""
    held = held or orientation(image)
    return image.transpose(TO_STORED[held]) if _is_turned_by_loading(image, held) else image


def stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of a picture that was just opened, as its pixels lie in the file."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    return (tags[TIFF_WIDTH], tags[TIFF_HEIGHT]) if TIFF_WIDTH in tags and TIFF_HEIGHT in tags else image.size


def _is_turned_by_loading(image: Image.Image, held: int) -> bool:
    """Loads a picture whose orientation is not 1: whether Pillow turned it, and so took its orientation away.

    Pillow does that to TIFFs alone, whose `size` is that of the upright picture from the start.
    """
    if held == 1:
        return False
    # Without its name, as Pillow maps plain files into memory in the upright picture's shape, which scrambles them.
    image.filename = ""
    image.load()
    return orientation(image) != held


class Levels:
    """How 16-bit grey becomes 8 bits, and how much of its range a folder's pictures use.

    Grey alone is concerned: of pictures with 16 bits a colour, Pillow itself reads the upper 8.

    Args:
      white: the value that becomes 255, as what lies above it does; 65535 keeps the upper 8 bits.

    Attributes:
      count: how many pictures of 16-bit grey were read.
      highest: the largest value in them.
    """

    def __init__(self, white: int = WHITE):
        self.white, self.count, self.highest = white, 0, 0
        self._lock = threading.Lock()  # several threads read

    def to_8_bits(self, image: Image.Image) -> Image.Image:
        """8 bits in the place of 16-bit grey, which PIL's own conversion would clip; other pictures as they are.

        Raises:
          ValueError: the pixels are floating-point numbers, of which nothing says what is white.
        """
        if image.mode == "F":
            raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
        # 16-bit grey has the modes "I;16", with its byte orders, and "I", in which PIL holds some such files.
        if not image.mode.startswith("I"):
            return image
        grey = np.clip(np.asarray(image), 0, WHITE).astype(np.uint32)
        with self._lock:
            self.count, self.highest = self.count + 1, max(self.highest, int(grey.max()))
        return Image.fromarray(np.minimum(grey * 256 // (self.white + 1), 255).astype(np.uint8))

    def warn_if_narrow(self, what: str, option: str = "config.white") -> None:
        """Says in a line where pictures that use a quarter of their range at most come out dark, and what mends it.

        Args:
          option: where the user says what is white.
        """
        fitting = max(255, (1 << self.highest.bit_length()) - 1)
        if 0 < 4 * self.highest <= self.white and fitting < self.white and jax.process_index() == 0:
            brightest = self.highest * 256 // (self.white + 1)
            pictures = "1 picture of 16 bits uses" if self.count == 1 else f"{self.count:,} pictures of 16 bits use"
            warn(
                f"{what}: {pictures} only the values up to {self.highest} of {self.white}, which come out dark "
                f"({brightest} of 255 at most); if {fitting} is white in them, set {option}={fitting}"
            )


def register_heif() -> bool:
    """Lets Pillow open HEIC files where pillow-heif is installed; returns whether it is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
