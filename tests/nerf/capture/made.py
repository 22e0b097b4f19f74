"""Small videos and photos, made by the ffmpeg that reads them and by Pillow."""

import os
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageFilter

WIDTH, HEIGHT = 96, 64
CORNERS = ((220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 230, 40))  # upper left, upper right, lower left, right


def picture(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> np.ndarray:
    """uint8 [h, w, 3]: a colour in each quarter, so that one sees how it is turned, and stripes in the middle."""
    rows, columns = np.mgrid[:height, :width]
    image = np.array(CORNERS, np.uint8)[2 * (rows >= height // 2) + (columns >= width // 2)]
    middle = np.s_[height // 4 : -height // 4, width // 4 : -width // 4]
    stripes = ((columns + rows + seed) // 4 % 2 * 200 + 20).astype(np.uint8)
    image[middle] = stripes[middle][..., None]
    return image


def blurred(image: np.ndarray, radius: float = 3) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def corners(image: np.ndarray) -> list[int]:
    """Which of `CORNERS` stands in each corner of a picture: [0, 1, 2, 3] if it is upright."""
    h, w = image.shape[:2]
    seen = [image[y, x].astype(int) for y in (h // 10, -h // 10) for x in (w // 10, -w // 10)]
    return [int(np.argmin([np.abs(colour - known).sum() for known in np.array(CORNERS)])) for colour in seen]


def ffmpeg(*arguments: str | Path, data: bytes | None = None) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, input=data, capture_output=True, env={**os.environ, "GCONV_PATH": os.devnull})
    if b"Unknown encoder" in done.stderr:
        pytest.skip("this ffmpeg lacks the encoder")
    assert done.returncode == 0, done.stderr.decode()


def movie(path: Path, images: list[np.ndarray], *options: str, rate: int = 10) -> Path:
    """A video of uint8 pictures [h, w, 3], nearly without loss."""
    height, width = images[0].shape[:2]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "pipe:0"]
    if "-c:v" not in options:
        options = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "10", "-pix_fmt", "yuv444p", *options)
    ffmpeg(*source, *options, path, data=b"".join(image.tobytes() for image in images))
    return path


def moving(count: int) -> list[np.ndarray]:
    return [picture(seed=i) for i in range(count)]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def save(path: Path, image: np.ndarray | Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def exif(**tags) -> Image.Exif:
    """EXIF of a phone: `orientation` and `place` if asked for."""
    result = Image.Exif()
    result[0x010F], result[0x0110] = "Maker", "Model 1"
    result.get_ifd(0x8769).update({0x920A: 4.25, 0xA405: 26, 0xA20E: 300.0, 0xA20F: 200.0, 0xA431: "SERIAL"})
    if "orientation" in tags:
        result[0x0112] = tags["orientation"]
    if tags.get("place"):
        result.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 7.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    return result
