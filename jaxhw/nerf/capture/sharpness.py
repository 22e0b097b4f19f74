"""How sharp a picture is: the variance of the Laplacian of a small grey copy.

The Laplacian answers to edges, and blur takes edges away. What it gives depends on what is in the picture as well, so
that pictures are compared with those that show about the same: the frames of a video around a frame.

On a copy of at most 480 pixels the noise of a large sensor has been averaged out, and the blur of a moving camera,
which is what spoils a capture, is still seen.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 480  # pixels: the longer side of the copy
NEAREST = 15  # frames of a video that a frame is compared with, itself among them
FACTOR = 0.4  # of the median sharpness, below which a frame of a video is called blurry


def small_grey(image: Image.Image) -> np.ndarray:
    """uint8 [h, w]: a grey copy of a picture with 8 bits a channel, its longer side at most `SIDE` pixels."""
    ratio = min(1, SIDE / max(image.size))
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BOX))


def measure(grey: np.ndarray) -> float:
    """The variance of the Laplacian of uint8 [h, w], in squared grey levels; 0 for less than 3 x 3 pixels."""
    if min(grey.shape) < 3:
        return 0.0
    grey = grey.astype(np.float32)
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def blurry(sharpness: Sequence[float], nearest: int | None = NEAREST, factor: float = FACTOR) -> list[bool]:
    """Which pictures are far less sharp than others: below `factor` times the median.

    Args:
      sharpness: of the pictures, in the order of time if `nearest` is given.
      nearest: how many pictures around each one, itself among them, the median is taken of; None for all.
    """
    values, n = np.asarray(sharpness, np.float64), len(sharpness)
    window = min(n, nearest or n)
    starts = np.clip(np.arange(n) - window // 2, 0, n - window)  # at both ends the window lies on one side
    return [bool(value < factor * np.median(values[i : i + window])) for value, i in zip(values, starts, strict=True)]
