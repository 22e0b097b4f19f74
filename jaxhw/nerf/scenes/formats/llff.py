"""LLFF's format (arXiv 1905.00889): poses_bounds.npy beside a folder of images in the order of their names."""

from pathlib import Path

import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.scenes.frames import Capture, Frame, Lens

IMAGES = ("images", "images_2", "images_4", "images_8")
SUFFIXES = (".png", ".jpg", ".jpeg")


def matches(folder: Path) -> bool:
    return (folder / "poses_bounds.npy").is_file()


def read(folder: Path) -> Capture:
    """Near and far are the original's: 0.9 times the nearest and 1 times the farthest bound."""
    path = folder / "poses_bounds.npy"
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if table.ndim != 2 or table.shape[1] != 17:
        raise UserError(f"{path} holds an array of shape {table.shape}: LLFF's is [images, 17]")
    if not np.isfinite(table).all():
        raise UserError(f"{path} holds numbers that are not finite: make it anew without those images")
    pictures = _pictures(folder)
    if len(pictures) != len(table):
        raise UserError(f"{path} has {len(table)} poses for the {len(pictures)} images in {pictures[0].parent}")
    matrices, bounds = table[:, :15].reshape(-1, 3, 5), table[:, 15:]
    frames = []
    for picture, matrix in zip(pictures, matrices, strict=True):
        down, right, back, position, (height, width, focal) = matrix.T
        pose = np.stack([right, down, -back, position], 1)
        lens = Lens(size=(int(width), int(height)), focal=(focal, focal), centre=(width / 2, height / 2))
        frames.append(Frame(path=picture, name=picture.name, pose=pose, lens=lens))
    return Capture(frames=frames, near=0.9 * float(bounds.min()), far=float(bounds.max()))


def _pictures(folder: Path) -> list[Path]:
    for name in IMAGES:
        found = [p for p in (folder / name).glob("*") if p.suffix.lower() in SUFFIXES]
        if found:
            return sorted(found)
    raise UserError(f"{folder} has poses_bounds.npy but no images in {folder / IMAGES[0]}")
