"""What a file is, before its frames are read: a video, or why it is none."""

import dataclasses
import re
from pathlib import Path

from jaxhw.errors import UserError
from jaxhw.nerf.capture import ffmpeg
from jaxhw.nerf.scenes.decoding import SUFFIXES

ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")  # with which files of the MP4 family begin


@dataclasses.dataclass(frozen=True)
class Video:
    """What is known of a video file before its frames are read.

    Attributes:
      size: (width, height) in pixels, upright.
      colour: see `ffmpeg.Log`.
      seconds: its length as its container says; 0 where it does not.
      rate: frames a second as its container says, if they are evenly spaced; 0 where it does not.
    """

    path: Path
    size: tuple[int, int]
    colour: tuple[str, str, str]
    seconds: float
    rate: float


def probe(path: Path) -> Video:
    """Decodes a video's first frame, and reads its header.

    Raises:
      UserError: the file cannot be read as a video; the message says why.
    """
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UserError(f"cannot read the video {path}: {error.strerror}") from None
    if empty:
        raise UserError(f"the video {path} is an empty file")
    log = ffmpeg.ask(ffmpeg.command(path, ffmpeg.SHOW, "-frames:v", "1", "-f", "null", "-"))
    if log.shown.empty():
        raise UserError(f"cannot read the video {path}: {_why_not(path, log)}")
    text = "\n".join(log.text)
    length = re.search(r"Duration: (\d+):(\d\d):(\d\d\.\d+)", text)
    rate = re.search(r"Video: .* ([\d.]+) fps", text)
    hours, minutes, seconds = map(float, length.groups()) if length else (0, 0, 0)
    seconds += 60 * minutes + 3600 * hours
    return Video(path, log.shown.get().size, log.colour, seconds, float(rate[1]) if rate else 0)


def _why_not(path: Path, log: ffmpeg.Log) -> str:
    """In our words, why ffmpeg decodes nothing of a file."""
    said = "\n".join(log.text)
    inside = [line for line in log.text if " Stream #0:" in line]
    with path.open("rb") as file:
        atom = file.read(8)[4:]
    if "moov atom not found" in said and atom in ATOMS:
        return "its index is missing, as where a recording was broken off or a copy is incomplete; copy it again"
    if path.suffix.lower() in SUFFIXES:
        return "it is a picture; give the folder that it lies in"
    if "whitelist" in said:
        return "it is no video but another kind of file, such as a playlist; give the video itself"
    if log.crashed or any(": Video:" in line and "attached pic" not in line for line in inside):
        return "no frame can be decoded: it may be damaged, or of a kind that ffmpeg lacks; convert it to H.264"
    if inside:
        return "there is no video in it, only sound or data"
    return "it is no video, whatever its name says"
