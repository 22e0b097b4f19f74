"""Masks: grey pictures that are black where a scene's pixels are not to be learnt (people, the sky, a car's bonnet).

A format may name a frame's mask (`mask_path` in transforms.json). Otherwise it lies in a folder `masks`, under the name
of the picture: COLMAP's NAME.EXT.png, or NAME.png.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxhw.decoding import open_picture
from jaxhw.errors import UserError
from jaxhw.nerf.scenes.decoding import picture_size
from jaxhw.nerf.scenes.frames import Frame

FOLDER = "masks"
GREY = ("1", "L", "I", "F")  # PIL's modes of one number a pixel; others are compared with black as colours


def found(frames: Sequence[Frame], folder: Path) -> list[Frame]:
    """The frames of the scene in `folder`, each with its mask if it has one.

    Raises:
      UserError: one file in a folder of masks would be the mask of two pictures.
    """
    whose: dict[Path, Frame] = {}
    result = []
    for frame in frames:
        mask = frame.mask or _in_folders(frame.path, folder)
        if mask and not frame.mask:
            other = whose.setdefault(mask, frame)
            if other is not frame:
                raise UserError(
                    f"{mask} could be the mask of {other.name} and of {frame.name}: put each picture's into a folder "
                    f"below {FOLDER} that is named like the picture's"
                )
        result.append(dataclasses.replace(frame, mask=mask))
    return result


def read(frame: Frame, downscale: int) -> np.ndarray:
    """bool [h, w]: where a pixel of the frame's picture, `downscale` times smaller, counts.

    A smaller pixel counts only if all those it is the mean of do: else it would show some of what is left out.

    Raises:
      UserError: the mask cannot be read, or is not of its picture's size.
    """

    def decode(image: Image.Image) -> np.ndarray:
        grey = image.mode in GREY or image.mode.startswith("I;16")
        values = np.asarray(image if grey else image.convert("RGB"))
        return values != 0 if values.ndim == 2 else (values != 0).any(-1)

    counts = open_picture(frame.mask, decode)
    (height, width), (expected_width, expected_height) = counts.shape, picture_size(frame.path, frame.upright)
    if (width, height) != (expected_width, expected_height):
        raise UserError(
            f"mask {frame.mask} is {width} x {height}, but its picture {frame.name} is "
            f"{expected_width} x {expected_height}: both must have one size"
        )
    rows, columns = height // downscale, width // downscale
    blocks = counts[: rows * downscale, : columns * downscale].reshape(rows, downscale, columns, downscale)
    return blocks.all((1, 3))


def _in_folders(picture: Path, folder: Path) -> Path | None:
    """The mask of a picture beside its folder or in the scene's: of several, the one with the fullest name."""
    return next((path for path in _places(picture, folder) if path.is_file()), None)


def _places(picture: Path, folder: Path) -> Iterator[Path]:
    """Where a picture's mask may lie.

    For images/cam1/a.jpg: below masks and images/masks, images/cam1/a, then cam1/a, then a, each as .jpg.png and .png.
    """
    folders = [folder / FOLDER]
    if picture.parent != folder:
        folders.append(picture.parent.parent / FOLDER)
    parts = picture.relative_to(folder).parts if picture.is_relative_to(folder) else (picture.name,)
    for masks in dict.fromkeys(folders):
        if masks.is_dir():
            for start in range(len(parts)):
                name = masks.joinpath(*parts[start:])
                if ".." not in parts[start:]:
                    yield name.with_name(f"{name.name}.png")
                    yield name.with_suffix(".png")
