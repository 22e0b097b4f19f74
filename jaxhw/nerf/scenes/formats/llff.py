"""LLFF's format (arXiv 1905.00889): poses_bounds.npy beside a folder of images in the order of their names."""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.scenes.decoding import SUFFIXES
from jaxhw.nerf.scenes.frames import Capture, Frame, Lens

FILE = "poses_bounds.npy"
IMAGES = ("images", "images_2", "images_4", "images_8")
LLFF_SUFFIXES = (".png", ".jpg", ".jpeg")


def matches(folder: Path) -> bool:
    return (folder / FILE).is_file()


def read(folder: Path) -> Capture:
    """Near and far are the original's: 0.9 times the nearest and 1 times the farthest bound."""
    path = folder / FILE
    table = _table(path)
    if not np.isfinite(table).all():
        raise UserError(f"{path} holds numbers that are not finite: make it anew without those images")
    pictures = _pictures(folder)
    if len(pictures) != len(table):
        raise UserError(f"{path} has {len(table)} poses for the {len(pictures)} images in {pictures[0].parent}")
    matrices, bounds = table[:, :15].reshape(-1, 3, 5), table[:, 15:]
    if bounds.min() <= 0 or (bounds[:, 0] > bounds[:, 1]).any() or bounds.max() > 1e9 * bounds.min():
        row = int(np.argmax((bounds[:, 0] <= 0) | (bounds[:, 0] > bounds[:, 1]) | (bounds[:, 1] > 1e9 * bounds.min())))
        raise UserError(
            f"{path}: the bounds of {pictures[row].name}, {bounds[row, 0]:g} and {bounds[row, 1]:g}, are no near and "
            "far distances: both must be positive and near the smaller one; make the file anew without that image"
        )
    frames = []
    for picture, matrix in zip(pictures, matrices, strict=True):
        down, right, back, position, (height, width, focal) = matrix.T
        pose = np.stack([right, down, -back, position], 1)
        lens = Lens(size=(int(width), int(height)), focal=(focal, focal), centre=(width / 2, height / 2))
        frames.append(Frame(path=picture, name=picture.name, pose=pose, lens=lens))
    return Capture(frames=frames, near=0.9 * float(bounds.min()), far=float(bounds.max()))


def _table(path: Path) -> np.ndarray:
    """[images, 17] numbers; what the header promises is compared with the file's length before memory is taken."""
    try:
        with path.open("rb") as file:
            shape, _, dtype = _header(file)
            if dtype.kind not in "fiu":
                raise ValueError(f"it holds {dtype}, not numbers")
            if len(shape) != 2 or shape[1] != 17:
                raise UserError(f"{path} holds an array of shape {shape}: LLFF's is [images, 17]")
            if not shape[0]:
                raise ValueError("it holds no poses")
            if path.stat().st_size - file.tell() < math.prod(shape) * dtype.itemsize:
                raise ValueError("it is cut off")
        return np.load(path, allow_pickle=False).astype(np.float64, copy=False)
    except UserError:
        raise
    except Exception as error:  # a damaged header makes numpy raise nearly anything
        reason = " ".join((str(error) or type(error).__name__).split())
        raise UserError(f"cannot read {path}: {reason[:200]}") from error


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether it is in Fortran's order, type of the numbers)."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _pictures(folder: Path) -> list[Path]:
    for name in IMAGES:
        found = sorted((folder / name).glob("*"))
        for suffixes in (LLFF_SUFFIXES, SUFFIXES):  # a phone's originals may lie beside the JPEGs made of them
            if pictures := [path for path in found if path.suffix.lower() in suffixes]:
                return pictures
    raise UserError(f"{folder} has {FILE} but no images in {folder / IMAGES[0]}")
