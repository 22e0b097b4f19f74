"""Sets of images that hold nothing, `blank:IMAGES:CLASSES`: to plan a run where its data are not.

No pixel is stored, so that a set may be of any size.
"""

import re

import numpy as np

from jaxhw.decoding import Levels
from jaxhw.errors import UserError

# Training images of sets that TFDS describes without their sizes until they are prepared: those of its catalogue.
PUBLISHED = {"cifar10": 50_000, "cifar100": 50_000, "stl10": 5_000, "imagenet2012": 1_281_167}


class BlankImages:
    """n black images of one size; reads like an array, `images[indices]`, and takes no memory."""

    def __init__(self, n: int, size: int):
        self.shape = (n, size, size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [k, size, size, 3], read only, for k integer indices."""
        return np.broadcast_to(np.uint8(0), (len(indices), *self.shape[1:]))


def load_blank(
    where: str, split: str, image_size: int | None, memory_limit: int | None, levels: Levels
) -> tuple[BlankImages, np.ndarray, list[str]]:
    """A split of IMAGES images whose classes take turns; see `jaxhw.vision.data.datasets.load`."""
    counts = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", where)
    if not counts or not image_size:
        raise UserError(f"blank:{where} must be blank:IMAGES:CLASSES, and config.image_size set")
    n, classes = (int(count) for count in counts.groups())
    labels = np.arange(n, dtype=np.int32) % classes
    return BlankImages(n, image_size), labels, [str(label) for label in range(classes)]
