"""Blender's synthetic scenes (NeRF, arXiv 2003.08934): transforms_{train,val,test}.json and RGBA pictures."""

from pathlib import Path

from jaxhw.nerf.scenes.formats.transforms import SPLITS, read_frames
from jaxhw.nerf.scenes.frames import Capture, read_json

FILE = "transforms_train.json"


def matches(folder: Path) -> bool:
    return (folder / FILE).is_file()


def read(folder: Path) -> Capture:
    """The files say nothing of near and far, which the cameras' distances have to tell."""
    frames, notes = [], []
    for split in SPLITS:
        path = folder / f"transforms_{split}.json"
        if path.is_file():
            # A held-out set that was not copied with the rest is no set, not an error.
            found, left_out = read_frames(path, read_json(path), split, required=split == "train")
            frames += found
            notes += left_out
    return Capture(frames=frames, unbounded=False, notes=tuple(notes))
