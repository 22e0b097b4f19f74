"""What of a photo's EXIF is written: what describes the camera and the exposure, and never the place.

A capture is often handed on, and its photos would tell where somebody lives. COLMAP guesses the focal length from
FocalLength, FocalLengthIn35mmFilm, the focal plane's resolution, and the sensor's width, which it finds by Make and
Model.
"""

import contextlib

from PIL import Image
from PIL.ExifTags import IFD, Base

CAMERA = (Base.Make, Base.Model, Base.DateTime)
EXPOSURE = (
    Base.ExposureTime,
    Base.FNumber,
    Base.ISOSpeedRatings,
    Base.DateTimeOriginal,
    Base.FocalLength,
    Base.FocalLengthIn35mmFilm,
    Base.FocalPlaneXResolution,
    Base.FocalPlaneYResolution,
    Base.FocalPlaneResolutionUnit,
    Base.LensModel,
)
SCAN, FILL = 0xDA, 0xFF  # JPEG's markers: compressed data follow; a byte that fills up
METADATA = (0xE1, 0xED, 0xFE)  # APP1: EXIF and XMP, APP13: IPTC, a comment
ACROSS = {  # tags that a quarter turn exchanges
    Base.FocalPlaneXResolution: Base.FocalPlaneYResolution,
    Base.FocalPlaneYResolution: Base.FocalPlaneXResolution,
}


def tells_place(image: Image.Image) -> bool:
    """Whether a photo's EXIF or XMP says where it was taken."""
    try:
        return bool(image.getexif().get_ifd(IFD.GPSInfo)) or b"GPS" in _bytes(image.info.get("xmp", b""))
    except Exception:  # broken EXIF, in which there could be anything
        return True


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def exif(image: Image.Image, turned: bool = False) -> bytes:
    """EXIF for the upright picture of a photo: camera and exposure, without orientation, place, thumbnail and the rest.

    Args:
      turned: whether the upright picture has width and height exchanged.
    """
    result, kept = Image.Exif(), {}
    with contextlib.suppress(Exception):  # broken EXIF says nothing
        old = image.getexif()
        result.update({tag: old[tag] for tag in CAMERA if tag in old})
        inner = old.get_ifd(IFD.Exif)
        kept = {ACROSS.get(tag, tag) if turned else tag: inner[tag] for tag in EXPOSURE if tag in inner}
        if kept:
            result.get_ifd(IFD.Exif).update(kept)
    with contextlib.suppress(Exception):
        return result.tobytes() if len(result) or kept else b""
    return b""


def without_metadata(jpeg: bytes, exif: bytes) -> bytes:
    """A JPEG file with other EXIF, its compressed pixels as they are; what follows the picture is cut off.

    The segments of metadata are left out, and the list of further pictures in the file, which have EXIF of their own.

    Raises:
      ValueError: the file is not laid out as a JPEG.
    """
    parts, at = [jpeg[:2]], 2
    if exif:
        payload = exif if exif.startswith(b"Exif\0\0") else b"Exif\0\0" + exif
        parts.append(b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload)
    while jpeg[at : at + 2] != b"\xff\xd9":
        if jpeg[at : at + 1] != b"\xff" or at + 4 > len(jpeg):
            raise ValueError("it is not laid out as a JPEG")
        kind, end = jpeg[at + 1], at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if kind == FILL:
            at += 1
            continue
        if kind == SCAN:
            end = _next_marker(jpeg, end)
        if kind not in METADATA and jpeg[at + 4 : at + 8] != b"MPF\0":
            parts.append(jpeg[at:end])
        at = end
    return b"".join([*parts, b"\xff\xd9"])


def _next_marker(jpeg: bytes, at: int) -> int:
    """Where compressed data end: at an FF that is followed by neither 0, nor a restart marker, nor another FF."""
    while (at := jpeg.find(b"\xff", at)) >= 0:
        following = jpeg[at + 1 : at + 2]
        if following and following not in b"\0\xff\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7":
            return at
        at += 1
    raise ValueError("it is not laid out as a JPEG")
