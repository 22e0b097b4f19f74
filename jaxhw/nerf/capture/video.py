"""The sharpest frames of a video, spread evenly over its time, as upright JPEG files in ordinary colours.

The video is decoded twice: first to small grey pictures, to see how sharp each frame is and at what time it stands, and
then once more at full size for the frames that were chosen. No more than a frame is held in memory at a time.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from jaxhw import errors, streams
from jaxhw.errors import UserError
from jaxhw.nerf.capture import ffmpeg, probing, sharpness
from jaxhw.nerf.capture.ffmpeg import Log
from jaxhw.nerf.capture.probing import Video
from jaxhw.nerf.capture.record import Frames, Kept, Rejected

QUALITY = {"quality": 95, "subsampling": 0}  # JPEG without visible loss, colours at full resolution
BATCH = 1000  # frames that one ffmpeg selects: a command line has a limit
PAUSE = 1.0  # seconds, see `_windows`
# Seconds, or a twentieth of its length, that a video may be shorter than its container says: sound goes on for longer.
ENDS_EARLY = 1.0

# High dynamic range, by what is called white: diffuse white is 203 cd/m2 in both systems (ITU-R BT.2408), 75 % of HLG's
# signal and 58 % of PQ's. Light is made linear with white at 1, its primaries are changed to those of sRGB, highlights
# of up to 1000 cd/m2 are bent below 1 from 0.8 on (mobius), and the rest is left as it is. The curve is the same for
# all frames, so that a point keeps its colour through the video.
HDR = ("arib-std-b67", "smpte2084")
TO_SRGB = (
    "zscale=w={width}:h={height}:tin={transfer}:pin={primaries}:min={matrix}:t=linear:npl=203,format=gbrpf32le,"
    "zscale=p=bt709,tonemap=mobius:param=0.8:peak=4.93:desat=0,"
    "zscale=t=iec61966-2-1:npl=203:m=gbr:r=full,format=gbrp"
)
TO_RGB = "scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


@dataclasses.dataclass(frozen=True)
class Frame:
    pts: int
    seconds: float
    sharpness: float


def extract(path: Path, images: Path, most: int) -> Frames:
    """Writes at most `most` frames of a video into the folder `images`: 00001.jpg and so on.

    Raises:
      UserError: it is no video, or fewer than two of its frames can be decoded.
    """
    video = probing.probe(path)
    log = Log()
    frames = survey(video, log)
    if len(frames) < 2:
        found = "one frame" if frames else "no frame that can be decoded"
        raise UserError(f"{path} has {found}; a scene takes a video that moves around it, or a folder of photos")
    chosen = choose(frames, most)
    names = {frames[i].pts: f"{number:05d}.jpg" for number, i in enumerate(chosen, 1)}
    written = set(write(video, names, images))

    at = [_at(video, frames[i].seconds) for i in chosen]
    blurry = sharpness.blurry([frames[i].sharpness for i in chosen])
    kept, lost = [], []
    for i, source, blurred in zip(chosen, at, blurry, strict=True):
        name = names[frames[i].pts]
        if name in written:
            kept.append(Kept(name, source, frames[i].sharpness, blurred, video.size))
        else:
            lost.append(Rejected(source, "could be decoded at first, and then no more"))
    if len(kept) < 2:
        raise UserError(f"the frames of {path} could be decoded at first, and then no more; try a copy of it")
    others = [Rejected(_at(video, frames[i].seconds), reason) for i, reason in _less_sharp(frames, chosen, names, most)]
    return Frames(kept, lost + others + _damage(video, frames, log), video=True)


def survey(video: Video, log: Log) -> list[Frame]:
    """Time and sharpness of every frame, in order; `log` gets what ffmpeg says meanwhile."""
    ratio = min(1, sharpness.SIDE / max(video.size))
    width, height = (max(1, round(side * ratio)) for side in video.size)
    filters = f"{ffmpeg.SHOW},scale={width}:{height}:flags=area"
    command = ffmpeg.command(video.path, filters, "-pix_fmt", "gray", "-f", "rawvideo", "-")
    reading = ffmpeg.frames(command, width * height, log)
    total = round(video.seconds * video.rate) or None
    frames: dict[int, Frame] = {}
    for shown, data in streams.bar(reading, "looking for sharp frames", total, "frame"):
        grey = np.frombuffer(data, np.uint8).reshape(height, width)
        # A second frame at the same time, in a damaged file, could not be told from the first.
        frames.setdefault(shown.pts, Frame(shown.pts, shown.seconds, sharpness.measure(grey)))
    return list(frames.values())


def choose(frames: list[Frame], most: int) -> list[int]:
    """The sharpest frame of each of `most` windows of equal time; all frames if there are no more than that."""
    if len(frames) <= most:
        return list(range(len(frames)))
    best: dict[int, int] = {}
    for i, window in enumerate(_windows(frames, most)):
        if window not in best or frames[i].sharpness > frames[best[window]].sharpness:
            best[window] = i
    return sorted(best.values())


def _windows(frames: list[Frame], most: int) -> list[int]:
    """Which of `most` windows of equal time each frame stands in.

    A longer pause between two frames than `PAUSE` counts as that: else one wrong timestamp would leave all frames to
    a single window.
    """
    steps = np.clip(np.diff([frame.seconds for frame in frames]), 0, PAUSE)
    time = np.concatenate([[0], np.cumsum(steps)])
    span = time[-1] * len(frames) / (len(frames) - 1)  # the last frame lasts, too
    return np.minimum(time / (span or 1) * most, most - 1).astype(int).tolist()


def _less_sharp(frames: list[Frame], chosen: list[int], names: dict[int, str], most: int) -> Iterator[tuple[int, str]]:
    """Each frame that was not chosen, with the reason: the one that was, of its window."""
    windows = _windows(frames, most)
    best = {windows[i]: frames[i] for i in chosen}
    for i in sorted(set(range(len(frames))) - set(chosen)):
        other = best[windows[i]]
        later = other.seconds - frames[i].seconds
        yield i, f"less sharp than {names[other.pts]} {abs(later):.2f} s {'later' if later > 0 else 'earlier'}"


def write(video: Video, names: dict[int, str], images: Path) -> Iterator[str]:
    """Writes the frames at some timestamps, and yields the name of each that was written."""
    for pts, pixels in streams.bar(_decode(video, list(names)), "writing frames", len(names), "frame"):
        if pts in names:
            Image.fromarray(pixels).save(images / names[pts], "JPEG", **QUALITY)
            yield names[pts]


def _decode(video: Video, chosen: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The timestamp and the pixels, uint8 [h, w, 3], of the frames at some timestamps."""
    width, height = video.size
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        select = "+".join(f"eq(pts,{pts})" for pts in batch)
        filters = f"select='{select}',{ffmpeg.SHOW},{colours(video)}"
        output = ["-frames:v", str(len(batch)), "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
        for shown, data in ffmpeg.frames(ffmpeg.command(video.path, filters, *output), width * height * 3, Log()):
            yield shown.pts, np.frombuffer(data, np.uint8).reshape(height, width, 3)


def colours(video: Video) -> str:
    """The filters that bring a video's frames to sRGB, at its size."""
    width, height = video.size
    matrix, primaries, transfer = (None if name in ("unknown", "reserved") else name for name in video.colour)
    if transfer in HDR:
        of = {"transfer": transfer, "primaries": primaries or "bt2020", "matrix": matrix or "bt2020nc"}
        return TO_SRGB.format(width=width, height=height, **of)
    # Without a word on its matrix, a video of high definition has that of BT.709, and a smaller one that of BT.601.
    guess = ":in_color_matrix=bt709" if matrix is None and min(video.size) >= 720 else ""
    return TO_RGB.format(width=width, height=height) + guess


def _at(video: Video, seconds: float) -> str:
    return f"{video.path.name} at {seconds:.2f} s"


def _damage(video: Video, frames: list[Frame], log: Log) -> list[Rejected]:
    """What of a video is missing or damaged, which is also said on stderr."""
    name, end = video.path.name, max(frame.seconds for frame in frames)
    missing = video.seconds - end - 1 / (video.rate or 1)
    if missing > max(ENDS_EARLY, 0.05 * video.seconds):
        said = f"the file says that it lasts {video.seconds:.2f} s"
        errors.warn(f"the pictures of {video.path} end at {end:.2f} s, and {said}: it may be cut short")
        return [Rejected(f"{name} after {end:.2f} s", f"cannot be decoded, and {said}")]
    if log.damage or log.crashed:
        errors.warn(f"{video.path} is damaged: what of it can be decoded is used, and some of it may look broken")
        return [Rejected(name, "is damaged in places; what can be decoded is used")]
    return []
