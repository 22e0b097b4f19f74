"""nerfstudio's and instant-ngp's transforms.json: one file, intrinsics for all frames or each, distortion."""

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.scenes.decoding import picture_size
from jaxhw.nerf.scenes.formats import beside
from jaxhw.nerf.scenes.frames import (
    OPENGL_TO_OPENCV,
    Capture,
    Finder,
    Frame,
    Lens,
    existing,
    focal_from_angle,
    listed,
    missing,
    read_json,
)

FILE = "transforms.json"
MODELS = {"SIMPLE_PINHOLE": "PINHOLE", "PERSPECTIVE": "OPENCV", "FISHEYE": "OPENCV_FISHEYE"}  # their other names
SPLITS = ("train", "val", "test")


def matches(folder: Path) -> bool:
    return (folder / FILE).is_file()


def read(folder: Path) -> Capture:
    path = folder / FILE
    content = read_json(path)
    frames, notes = read_frames(path, content)
    applied = np.eye(4)  # what nerfstudio did to COLMAP's frame
    try:
        applied[:3] = np.asarray(content.get("applied_transform", applied), float)[:3]
        applied[:3] *= float(content.get("applied_scale", 1.0))
        to_capture = np.linalg.inv(applied)
    except (TypeError, ValueError, OverflowError, np.linalg.LinAlgError) as error:
        raise UserError(f"{path} has an applied_transform or applied_scale that is none: {error}") from error
    model, ignored = beside.model(folder, frames, to_capture)
    return Capture(frames=frames, to_capture=to_capture, model=model, notes=(*notes, *ignored))


def read_frames(
    path: Path, content: Mapping[str, Any], split: str = "", required: bool = True
) -> tuple[list[Frame], tuple[str, ...]]:
    """(the frames of one transforms*.json whose pictures exist, sorted by name; lines on what is not used).

    Raises:
      UserError: the file is damaged, or no picture exists though that is `required`.
    """
    try:
        entries = sorted(content["frames"], key=lambda entry: entry["file_path"])
        find = Finder()
        pictures = [find(path.parent, entry["file_path"]) for entry in entries]
        splits, notes = _named_splits(path, content, entries)
        there = existing(pictures, path, required)
        frames = [_frame(path, content, entries[i], pictures[i], split, splits) for i in there]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is not a transforms.json as nerfstudio and instant-ngp write it: {what}") from error
    return frames, (*missing(pictures, there, path), *notes)


def _frame(
    path: Path, content: Mapping[str, Any], entry: Mapping[str, Any], picture: Path, split: str, splits: dict[str, str]
) -> Frame:
    values, name = {**content, **entry}, os.path.relpath(picture, path.parent)
    pose = np.asarray(entry["transform_matrix"], float)[:3, :4]
    if pose.shape != (3, 4):
        raise ValueError(f"the transform_matrix of {name} is no 4 x 4 matrix")
    pose = np.concatenate([pose[:, :3] @ OPENGL_TO_OPENCV, pose[:, 3:]], 1)
    return Frame(
        path=picture,
        name=name,
        pose=pose,
        lens=_lens(values, picture, name),
        split=split or splits.get(_plain(entry["file_path"]), ""),
        mask=path.parent / values["mask_path"].replace("\\", "/") if values.get("mask_path") else None,
    )


def _plain(name: str) -> str:
    """A file's name however it is written: "./images\\a.png" is "images/a.png"."""
    return posixpath.normpath(name.replace("\\", "/"))


def _named_splits(
    path: Path, content: Mapping[str, Any], entries: list[Mapping[str, Any]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """({plain name: split}, a line on names that no frame has). Of several splits the last of `SPLITS` holds."""
    splits = {_plain(name): split for split in SPLITS for name in content.get(f"{split}_filenames", ())}
    unknown = sorted(splits.keys() - {_plain(entry["file_path"]) for entry in entries})
    if not unknown:
        return splits, ()
    return splits, (f"{path}: its splits name {len(unknown)} files that none of its frames has: {listed(unknown)}",)


def _lens(values: Mapping[str, Any], picture: Path, name: str) -> Lens:
    size = (int(values["w"]), int(values["h"])) if "w" in values and "h" in values else picture_size(picture)
    width, height = size
    if "fl_x" in values:
        fx = float(values["fl_x"])
        fy = float(values.get("fl_y", fx))
    else:
        fx = focal_from_angle(float(values["camera_angle_x"]), width)
        fy = focal_from_angle(float(values["camera_angle_y"]), height) if "camera_angle_y" in values else fx
    centre = (float(values.get("cx", width / 2)), float(values.get("cy", height / 2)))
    k1, k2, k3, k4, p1, p2 = (float(values.get(key, 0)) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    model = values.get("camera_model", "OPENCV_FISHEYE" if values.get("is_fisheye") else "OPENCV")
    model = MODELS.get(model, model)
    if model == "OPENCV_FISHEYE":
        if p1 or p2:
            raise UserError(f"{name} has a fisheye camera with p1 and p2, which OPENCV_FISHEYE does not have")
        return Lens(size=size, focal=(fx, fy), centre=centre, distortion=(k1, k2, k3, k4), model=model)
    if k4:
        raise UserError(f"{name} has a {model} camera with k4: only k1, k2, k3, p1 and p2 are supported")
    if k3:  # Metashape's, which is Brown's model of lens distortion with three radial terms
        return Lens(size=size, focal=(fx, fy), centre=centre, distortion=(k1, k2, p1, p2, k3), model="BROWN")
    return Lens(size=size, focal=(fx, fy), centre=centre, distortion=(k1, k2, p1, p2), model=model)
