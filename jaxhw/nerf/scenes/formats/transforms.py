"""nerfstudio's and instant-ngp's transforms.json: one file, intrinsics for all frames or each, distortion."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.scenes.frames import (
    OPENGL_TO_OPENCV,
    Capture,
    Frame,
    Lens,
    existing,
    focal_from_angle,
    picture_size,
    read_json,
)

MODELS = {"SIMPLE_PINHOLE": "PINHOLE", "PERSPECTIVE": "OPENCV", "FISHEYE": "OPENCV_FISHEYE"}  # their other names
SUFFIXES = ("", ".png", ".jpg", ".jpeg")  # Blender's and some of instant-ngp's files leave it out


def matches(folder: Path) -> bool:
    return (folder / "transforms.json").is_file()


def read(folder: Path) -> Capture:
    path = folder / "transforms.json"
    content = read_json(path)
    frames = read_frames(path, content)
    applied = np.eye(4)  # what nerfstudio did to COLMAP's frame
    try:
        applied[:3] = np.asarray(content.get("applied_transform", applied), float)[:3]
        applied[:3] *= float(content.get("applied_scale", 1.0))
        return Capture(frames=frames, to_capture=np.linalg.inv(applied))
    except (TypeError, ValueError, np.linalg.LinAlgError) as error:
        raise UserError(f"{path} has an applied_transform or applied_scale that is none: {error}") from error


def read_frames(path: Path, content: Mapping[str, Any], split: str = "") -> list[Frame]:
    """The frames of one transforms*.json whose pictures exist, sorted by name."""
    try:
        entries = sorted(content["frames"], key=lambda entry: entry["file_path"])
        pictures = [_picture(path.parent / entry["file_path"]) for entry in entries]
        splits = _named_splits(content)
        frames = []
        for i in existing(pictures, path):
            entry, name = entries[i], os.path.relpath(pictures[i], path.parent)
            pose = np.asarray(entry["transform_matrix"], float)[:3, :4]
            if pose.shape != (3, 4):
                raise ValueError(f"the transform_matrix of {name} is no 4 x 4 matrix")
            pose = np.concatenate([pose[:, :3] @ OPENGL_TO_OPENCV, pose[:, 3:]], 1)
            lens = _lens({**content, **entry}, pictures[i], name)
            mask = path.parent / entry["mask_path"] if entry.get("mask_path") else None
            part = split or splits.get(entry["file_path"], "")
            frames.append(Frame(path=pictures[i], name=name, pose=pose, lens=lens, split=part, mask=mask))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is not a transforms.json as nerfstudio and instant-ngp write it: {what}") from error
    return frames


def _picture(path: Path) -> Path:
    return next((p for s in SUFFIXES if (p := path.with_name(path.name + s)).is_file()), path)


def _named_splits(content: Mapping[str, Any]) -> dict[str, str]:
    return {name: split for split in ("train", "val", "test") for name in content.get(f"{split}_filenames", ())}


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
    if k3 or k4:
        raise UserError(f"{name} has a {model} camera with k3 or k4: only k1, k2, p1 and p2 are supported")
    return Lens(size=size, focal=(fx, fy), centre=centre, distortion=(k1, k2, p1, p2), model=model)
