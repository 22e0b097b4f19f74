"""Blender's synthetic scenes (NeRF, arXiv 2003.08934): transforms_{train,val,test}.json and RGBA pictures."""

from pathlib import Path

from jaxhw.nerf.scenes.formats.transforms import read_frames
from jaxhw.nerf.scenes.frames import Capture, read_json

NEAR, FAR = 2.0, 6.0  # the original's, for cameras 4 units from the object


def matches(folder: Path) -> bool:
    return (folder / "transforms_train.json").is_file()


def read(folder: Path) -> Capture:
    paths = {split: folder / f"transforms_{split}.json" for split in ("train", "val", "test")}
    frames = []
    for split, path in paths.items():
        if path.is_file():
            frames += read_frames(path, read_json(path), split)
    return Capture(frames=frames, near=NEAR, far=FAR, unbounded=False)
