"""COLMAP's model files, binary (.bin) and text (.txt): cameras, images and points.

Every length is compared with what the file holds before it is believed, so that a cut or damaged file is one line. The
layout is that of COLMAP's src/colmap/scene/reconstruction_io.cc, little-endian throughout.
"""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.spatial.transform import Rotation

from jaxhw.errors import UserError

T = TypeVar("T")

# COLMAP's models in the order of their numbers, with how many parameters each has.
MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
)


class Camera(NamedTuple):
    model: str
    size: tuple[int, int]
    parameters: tuple[float, ...]


class Image(NamedTuple):
    """pose is [3, 4], camera to world."""

    name: str
    camera: int
    pose: np.ndarray


def cameras(folder: Path) -> dict[int, Camera]:
    """The cameras of a model by their numbers."""
    return _read(folder, "cameras", _binary_cameras, _text_cameras)


def images(folder: Path) -> list[Image]:
    """The posed images of a model, sorted by name."""
    return sorted(_read(folder, "images", _binary_images, _text_images), key=lambda image: image.name)


def image_count(folder: Path) -> int:
    """The number of images that the model's file says it holds, without reading them all where it is binary."""
    path = folder / "images.bin"
    if not path.is_file():
        return len(images(folder))
    with path.open("rb") as file:
        start = file.read(8)
    return struct.unpack("<Q", start)[0] if len(start) == 8 else 0


def points(folder: Path) -> np.ndarray:
    """[k, 3] positions of a model's points; none where it has no such file."""
    if not any((folder / f"points3D.{kind}").is_file() for kind in ("bin", "txt")):
        return np.zeros((0, 3))
    found = _read(folder, "points3D", _binary_points, _text_points)
    return np.array(found, float).reshape(-1, 3)


def _read(folder: Path, name: str, binary: Callable[[bytes], T], text: Callable[[list[str]], T]) -> T:
    """COLMAP prefers the binary file where both are there."""
    path = folder / f"{name}.bin"
    path = path if path.is_file() else folder / f"{name}.txt"
    try:
        data = path.read_bytes()
        # Names are bytes to COLMAP: what is no UTF-8 stays what it is on the disk.
        return binary(data) if path.suffix == ".bin" else text(os.fsdecode(data).split("\n"))
    except (struct.error, OSError) as error:
        reason = f"{path.name} is cut off" if isinstance(error, struct.error) else error.strerror
        raise UserError(f"cannot read COLMAP's model {folder}: {reason}") from error
    except (ValueError, IndexError, OverflowError) as error:
        raise UserError(f"cannot read COLMAP's model {folder}: {path.name} is damaged ({error})") from error


def _counted(data: bytes, least: int) -> int:
    """The number of records that a file begins with, each of at least so many bytes."""
    (count,) = struct.unpack_from("<Q", data)
    if count * least > len(data) - 8:
        raise struct.error
    return count


def _binary_cameras(data: bytes) -> dict[int, Camera]:
    found, at = {}, 8
    for _ in range(_counted(data, 48)):
        number, kind, width, height = struct.unpack_from("<IiQQ", data, at)
        if not 0 <= kind < len(MODELS):
            raise ValueError(f"camera {number} is of model number {kind}, which is none")
        name, count = MODELS[kind]
        found[number] = Camera(name, (width, height), struct.unpack_from(f"<{count}d", data, at + 24))
        at += 24 + 8 * count
    return found


def _binary_images(data: bytes) -> list[Image]:
    """An image is 64 bytes (id, pose, camera), its name up to a 0, and 24 bytes for each of a number of points."""
    found, at = [], 8
    for _ in range(_counted(data, 73)):
        _, *pose, camera = struct.unpack_from("<I7dI", data, at)
        end = data.find(0, at + 64)
        if end < 0:
            raise struct.error
        (count,) = struct.unpack_from("<Q", data, end + 1)
        found.append(Image(os.fsdecode(data[at + 64 : end]), camera, _camera_to_world(pose)))
        at = end + 9 + 24 * count
        if at > len(data):
            raise struct.error
    return found


def _binary_points(data: bytes) -> list[tuple[float, float, float]]:
    """A point is 43 bytes (id, position, colour, error), and 8 bytes for each of the images that it is seen in."""
    found, at = [], 8
    for _ in range(_counted(data, 51)):
        found.append(struct.unpack_from("<3d", data, at + 8))
        at += 51 + 8 * struct.unpack_from("<Q", data, at + 43)[0]
        if at > len(data):
            raise struct.error
    return found


def _text_cameras(lines: list[str]) -> dict[int, Camera]:
    found = {}
    for line in _content(iter(lines)):
        number, model, width, height, *parameters = line.split()
        counts = dict(MODELS)
        if model in counts and len(parameters) != counts[model]:
            raise ValueError(f"camera {number} has {len(parameters)} parameters, {model} takes {counts[model]}")
        found[int(number)] = Camera(model, (int(width), int(height)), tuple(map(float, parameters)))
    return found


def _text_images(lines: list[str]) -> list[Image]:
    """Two lines an image, of which the second, its points, may be empty; a name may have spaces in it."""
    found, rest = [], iter(lines)
    for line in _content(rest):
        fields = line.split(maxsplit=9)
        if len(fields) < 10:
            raise ValueError(f"the line {line[:80]!r} is no image")
        found.append(Image(fields[9].rstrip(), int(fields[8]), _camera_to_world([float(v) for v in fields[1:8]])))
        next(rest, None)
    return found


def _text_points(lines: list[str]) -> list[list[float]]:
    return [[float(v) for v in line.split(maxsplit=4)[1:4]] for line in _content(iter(lines))]


def _content(lines: Iterator[str]) -> Iterator[str]:
    return (line for line in lines if line.strip() and not line.startswith("#"))


def _camera_to_world(values: list[float]) -> np.ndarray:
    """[3, 4], from a quaternion (w, x, y, z) and a position, world to camera."""
    quaternion, position = np.array(values[:4]), np.array(values[4:])
    if not np.isfinite(values).all() or not quaternion.any():
        return np.full((3, 4), np.nan)  # told later, with the frame's name
    rotation = Rotation.from_quat(quaternion[[1, 2, 3, 0]]).as_matrix().T
    return np.concatenate([rotation, -rotation @ position[:, None]], 1)
