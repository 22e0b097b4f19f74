"""Photos as upright pictures of 8 bits a channel: copied as they are where that is what they are.

A photo that has to be turned or converted is written as JPEG of quality 95 with colours at full resolution if it was
compressed with loss, and as PNG if not, or if it has transparency.
"""

import contextlib
import dataclasses
import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from jaxhw import decoding, streams
from jaxhw.decoding import TURNED, WHITE, Levels
from jaxhw.errors import UserError
from jaxhw.nerf.capture import listing, privacy, sharpness
from jaxhw.nerf.capture.listing import Photo
from jaxhw.nerf.capture.record import Frames, Kept, Rejected

MOST_THREADS = 8  # each holds a photo in memory, of 50 megapixels 150 MB and more
# Photos show different things, and some things have few edges: only what is far from all others is called blurry.
FACTOR = 0.25
JPEG = ("JPEG", "MPO")  # MPO: a JPEG with further pictures behind it, as some phones write
LOSSLESS = ("PNG", "TIFF", "BMP")
PROFILED = ("L", "RGB", "RGBA", "P", "I;16")  # modes whose colour profile also holds for what they are converted to


@dataclasses.dataclass(frozen=True)
class Picture:
    """A photo as it will be written: the file's content, its suffix, (width, height), and how sharp it is."""

    data: bytes
    suffix: str
    size: tuple[int, int]
    sharpness: float


def extract(folders: Sequence[Path], images: Path, white: int = WHITE) -> Frames:
    """Writes all photos of some folders that can be read into the folder `images`.

    Args:
      white: see `decoding.Levels`.

    Raises:
      UserError: there are fewer than two.
    """
    photos, rejected = listing.list_photos(folders)
    levels = Levels(white)
    kept: list[Kept] = []
    pool = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="decode")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of broken EXIF
            done = pool.map(lambda photo: _write(photo, images, levels), photos)
            for result in streams.bar(done, "reading photos", len(photos), "photo"):
                (kept if isinstance(result, Kept) else rejected).append(result)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C as well
    if len(kept) < 2:
        raise UserError(_too_few(folders, kept, rejected))
    levels.warn_if_narrow(", ".join(map(str, folders)), "--white")
    blurry = sharpness.blurry([picture.sharpness for picture in kept], nearest=None, factor=FACTOR)
    kept = [dataclasses.replace(picture, blurry=blurred) for picture, blurred in zip(kept, blurry, strict=True)]
    return Frames(sorted(kept, key=lambda picture: picture.name), rejected, video=False)


def _write(photo: Photo, images: Path, levels: Levels) -> Kept | Rejected:
    try:
        picture = decoding.open_picture(photo.path, lambda image: convert(image, photo.path, levels))
    except UserError as error:
        return Rejected(photo.source, _why_not(error.__cause__ or error))
    name = photo.stem + picture.suffix
    path = images / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture.data)
    return Kept(name, photo.source, picture.sharpness, False, picture.size)


def convert(image: Image.Image, path: Path, levels: Levels) -> Picture:
    """What is written for an opened photo; all of it is decoded, so that a damaged file is found here."""
    turned = decoding.orientation(image) != 1
    across = decoding.orientation(image) in TURNED
    image.load()  # which turns a TIFF, and takes its orientation away
    stored = path.read_bytes()
    if not turned and _is_plain(image, stored):
        data, suffix = _copied(image, stored, levels)
        size, grey = image.size, sharpness.small_grey(image)
    else:
        picture = _plain(image, levels)
        lossy = not (_is_lossless(image, stored) or picture.mode == "RGBA")
        data, suffix = _encoded(image, picture, across, lossy)
        size, grey = picture.size, sharpness.small_grey(picture)
    return Picture(data, suffix, size, sharpness.measure(grey))


def _is_plain(image: Image.Image, stored: bytes) -> bool:
    """Whether a file is a JPEG or PNG of 8 bits, grey or RGB, that every reader reads."""
    if image.format in JPEG:
        with Image.open(io.BytesIO(stored)) as whole:  # a huge one has been opened at a fraction of its size
            return image.mode in ("L", "RGB") and whole.size == image.size
    bits = stored[24:25]  # in PNG's header
    return image.format == "PNG" and image.mode in ("L", "RGB", "RGBA") and bits == b"\x08"


def _copied(image: Image.Image, stored: bytes, levels: Levels) -> tuple[bytes, str]:
    """The file itself, or with the same pixels and without the place, and its suffix."""
    suffix = ".png" if image.format == "PNG" else ".jpg"
    if not privacy.tells_place(image):
        return stored, suffix
    if image.format in JPEG:
        with contextlib.suppress(ValueError):
            return privacy.without_metadata(stored, privacy.exif(image)), suffix
    return _encoded(image, _plain(image, levels), across=False, lossy=image.format in JPEG)


def _plain(image: Image.Image, levels: Levels) -> Image.Image:
    """The upright picture: grey or RGB of 8 bits, or RGBA if it has transparency."""
    picture = levels.to_8_bits(decoding.upright(image))
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _encoded(image: Image.Image, picture: Image.Image, across: bool, lossy: bool) -> tuple[bytes, str]:
    """The content of a file for a picture made of a photo, and its suffix; `across`: by a quarter turn."""
    profile = image.info.get("icc_profile") if image.mode in PROFILED else None
    kept = {"exif": privacy.exif(image, across), "icc_profile": profile}
    kept = {key: value for key, value in kept.items() if value}
    picture = picture.copy()
    picture.info = {}  # Pillow would write comments and more of it
    file = io.BytesIO()
    if lossy:
        picture.save(file, "JPEG", quality=95, subsampling=0, **kept)
    else:
        picture.save(file, "PNG", compress_level=1, **kept)  # a third of the time, and a tenth more to store
    return file.getvalue(), ".jpg" if lossy else ".png"


def _is_lossless(image: Image.Image, stored: bytes) -> bool:
    """Whether a file was compressed without loss; of a WebP, the name of the chunk with its pixels tells."""
    at = 12
    while image.format == "WEBP" and at + 8 <= len(stored):
        if stored[at : at + 4] in (b"VP8L", b"VP8 "):
            return stored[at : at + 4] == b"VP8L"
        size = int.from_bytes(stored[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return image.format in LOSSLESS


def _why_not(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "cannot be read: it is no picture, whatever its name says"
    return "cannot be read: " + " ".join((str(error) or type(error).__name__).split())


def _too_few(folders: Sequence[Path], kept: list[Kept], rejected: list[Rejected]) -> str:
    """One line on folders with fewer than two pictures: what was found in them, and what to do."""
    where = ", ".join(str(folder) for folder in folders)
    number = "only one picture that can be read" if kept else "no picture that can be read"
    broken = next((f"{item.source} {item.reason}" for item in rejected if "cannot be read" in item.reason), "")
    found = listing.kinds([item.source for item in rejected])
    said = (f"; {broken}" if broken else "") + (f"; found besides: {found}" if found else "")
    return f"{where}: {number}{said}; a scene takes a folder of photos of it from all around, or a video file"
