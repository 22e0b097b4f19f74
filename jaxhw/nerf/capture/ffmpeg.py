"""Frames of a video file through ffmpeg, which comes with imageio-ffmpeg: nothing but the one file is ever opened.

ffmpeg also reads playlists and scripts, which name other files and addresses: its demuxers are limited to those of
videos, and its protocols to local files. What it says on stderr is parsed here, and never shown.
"""

import contextlib
import dataclasses
import os
import queue
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import imageio_ffmpeg

from jaxhw.decoding import MOST_PIXELS
from jaxhw.errors import UserError

PATIENCE = 120.0  # seconds without a frame, after which ffmpeg is taken to hang

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,mxf,nut,ivf,obu,h264,hevc,dv,gif,yuv4mpegpipe"

# The filter `showinfo` writes two lines for each frame; in one line, since other threads write between their parts:
# [Parsed_showinfo_0 @ 0x7f] [info] n:   0 pts:   1024 pts_time:0.1 ... sar:1/1 s:720x540 ...
# [Parsed_showinfo_0 @ 0x7f] [info] color_range:tv color_space:bt709 color_primaries:bt709 color_trc:bt709
SHOW = "showinfo=checksum=0"
FRAME = re.compile(rb"\bn: *\d+ pts: *(-?\d+) pts_time:(\S+) .*?sar:(\d+)/(\d+) s:(\d+)x(\d+) ")
COLOUR = re.compile(rb"color_space:([\w-]+) color_primaries:([\w-]+) color_trc:([\w-]+)")
DAMAGE = re.compile(
    rb"\[error\](?!.*muxer).*(partial file|corrupt|[Ii]nvalid|error while decoding|truncat|missing|premature)"
)


@dataclasses.dataclass(frozen=True)
class Shown:
    """What ffmpeg says of a frame, before it is scaled.

    Attributes:
      pts: its timestamp, a whole number of the stream's unit of time, from which the frame is found again.
      seconds: the same in seconds from the video's beginning.
      size: (width, height) after turning it upright, of square pixels.
    """

    pts: int
    seconds: float
    size: tuple[int, int]


class Log:
    """ffmpeg's stderr, read by a thread for as long as ffmpeg runs.

    Attributes:
      shown: a `Shown` for each frame, in order.
      colour: the last frame's colour space (matrix), primaries and transfer, by ffmpeg's names.
      damage: how many lines say that the file is damaged.
      crashed: whether a signal ended it that was not ours.
      text: all other lines, up to a limit.
    """

    MOST = 1000  # lines of text that are kept

    def __init__(self):
        self.shown: queue.Queue[Shown] = queue.Queue()
        self.colour = ("unknown", "unknown", "unknown")
        self.damage = 0
        self.crashed = False
        self.text: list[str] = []

    def read(self, stream: BinaryIO) -> None:
        for line in stream:
            for pts, seconds, *numbers in FRAME.findall(line):
                across, down, width, height = map(int, numbers)
                ratio = across / down if across and down else 1.0
                self.shown.put(Shown(int(pts), float(seconds), (max(1, round(width * ratio)), height)))
            for names in COLOUR.findall(line):
                self.colour = tuple(name.decode() for name in names)
            self.damage += bool(DAMAGE.search(line))
            if b"showinfo" not in line and len(self.text) < self.MOST:
                self.text.append(line.decode(errors="replace").rstrip())


def command(video: Path, filters: str, *output: str) -> list[str]:
    """ffmpeg's command line that decodes a video's first picture stream, each frame once, at its own time.

    The name is passed as an address of the file protocol, so that no character in it means anything to ffmpeg.

    Raises:
      UserError: there is no ffmpeg.
    """
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise UserError("reading videos takes ffmpeg: pip install --force-reinstall imageio-ffmpeg") from None
    says = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "repeat+level+info"]
    safe = ["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-max_pixels", str(MOST_PIXELS)]
    source = ["-fflags", "+discardcorrupt", "-i", f"file:{video}", "-map", "0:V:0"]  # V: no cover of an audio file
    return [program, *says, *safe, *source, "-vf", filters, "-fps_mode", "passthrough", *output]


def frames(command: list[str], length: int, log: Log) -> Iterator[tuple[Shown, bytes]]:
    """Each frame that a command writes to its stdout, `length` bytes, with what ffmpeg says of it.

    ffmpeg is ended when the caller takes no more frames.

    Raises:
      UserError: no frame came for `PATIENCE` seconds, or a frame without a time.
    """
    with _running(command, log) as process:
        while len(data := _read(process, length)) == length:
            try:
                shown = log.shown.get(
                    timeout=PATIENCE
                )  # it was said before the frame came, and may still be on its way
            except queue.Empty:
                raise UserError("this ffmpeg does not tell the times of frames; use imageio-ffmpeg's own") from None
            yield shown, data


def ask(command: list[str]) -> Log:
    """What ffmpeg says while it runs a command that writes nothing to stdout."""
    log = Log()
    with _running(command, log) as process:
        _read(process, -1)
    return log


@contextlib.contextmanager
def _running(command: list[str], log: Log) -> Iterator[subprocess.Popen]:
    pipe = subprocess.PIPE
    # Its libc must not load the system's converters of text: those of another version crash it (with MPEG-TS).
    env = {**os.environ, "GCONV_PATH": os.devnull}
    env.pop("FFREPORT", None)  # would have it write a file
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=env) as process:
        reader = threading.Thread(target=log.read, args=(process.stderr,), daemon=True)
        reader.start()
        try:
            yield process
            with contextlib.suppress(subprocess.TimeoutExpired):
                log.crashed = process.wait(PATIENCE) < 0  # its last words follow the last frame
        finally:
            process.kill()  # does nothing once it has ended
            reader.join()


def _read(process: subprocess.Popen, length: int) -> bytes:
    """The next bytes of stdout, fewer at its end. A process that sends none for `PATIENCE` seconds is killed."""
    hung = threading.Event()

    def end() -> None:
        hung.set()
        process.kill()

    timer = threading.Timer(PATIENCE, end)
    timer.daemon = True
    timer.start()
    try:
        data = process.stdout.read(length)
    finally:
        timer.cancel()
    if hung.is_set():
        raise UserError(f"ffmpeg gave no frame for {PATIENCE:.0f} s: the video may be damaged; try a copy of it")
    return data
