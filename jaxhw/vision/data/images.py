"""From encoded pictures of any kind to square uint8 RGB, one at a time or many on demand."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

from jaxhw import streams
from jaxhw.decoding import Levels, upright


def to_rgb(image: Image.Image, levels: Levels) -> Image.Image:
    """Turns any mode into 8-bit RGB, upright by its EXIF orientation; 16-bit grey as `levels` says.

    Transparency is composited on white.

    Raises:
        ValueError: the pixels are floating-point numbers, of which nothing says what is white.
    """
    image = levels.to_8_bits(upright(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def fit(image: Image.Image, size: int, levels: Levels | None = None) -> np.ndarray:
    """Resizes so that the shorter side is `size` (antialiased bilinear) and crops the centre: uint8 [size, size, 3]."""
    image = to_rgb(image, levels or Levels())
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


class LazyImages:
    """n images of one size that are decoded when asked for: reads like an array, `images[indices]`.

    Args:
        decode: gives image i as uint8 [size, size, 3]; called from several threads at once.
        n: how many there are.
        size: pixels a side.
    """

    def __init__(self, decode: Callable[[int], np.ndarray], n: int, size: int):
        self.shape = (n, size, size, 3)
        self.nbytes = n * size * size * 3
        self._decode = decode

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [k, size, size, 3] for k integer indices."""
        out = np.empty((len(indices), *self.shape[1:]), np.uint8)

        # Threads decode in parallel, each into its own place.
        def put(slot: int, index: int) -> None:
            out[slot] = self._decode(index)

        done = decoding_pool().map(put, range(len(indices)), indices)
        for _ in streams.bar(done, "preparing images", len(indices), "image"):
            pass
        return out


def fit_all(images: np.ndarray, size: int) -> np.ndarray:
    """`fit` of every image of uint8 [n, h, w, 3]: uint8 [n, size, size, 3]."""
    fitted = LazyImages(lambda i: fit(Image.fromarray(images[i]), size), len(images), size)
    return fitted[np.arange(len(images))]


@functools.cache
def decoding_pool() -> ThreadPoolExecutor:
    """The threads that decode, one for each core; PIL decodes without Python's lock."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")


def fits(nbytes: int, memory_limit: int | None) -> bool:
    """Whether images of `nbytes` may be kept in memory: a quarter of what is available is theirs without a limit."""
    return nbytes <= (quarter_of_memory() if memory_limit is None else memory_limit)


def quarter_of_memory() -> int:
    """A quarter of the memory in bytes: of what is available on Linux, of what is installed elsewhere."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024 // 4
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
