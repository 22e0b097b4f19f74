"""COLMAP's models, binary and text: sparse/0 and its like beside a folder of images."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.scenes.frames import Capture, Frame, Lens, existing

if TYPE_CHECKING:  # pycolmap is optional, and PIL has to come before it
    import pycolmap

# COLMAP's model: ours, and where fx, fy, cx, cy and the distortion are among its parameters
PARAMETERS = {
    "SIMPLE_PINHOLE": ("PINHOLE", (0, 0, 1, 2)),
    "PINHOLE": ("PINHOLE", (0, 1, 2, 3)),
    "SIMPLE_RADIAL": ("SIMPLE_RADIAL", (0, 0, 1, 2, 3)),
    "RADIAL": ("RADIAL", (0, 0, 1, 2, 3, 4)),
    "OPENCV": ("OPENCV", (0, 1, 2, 3, 4, 5, 6, 7)),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", (0, 1, 2, 3, 4, 5, 6, 7)),
}
ROOTS = ("sparse", "colmap/sparse", "colmap", ".")
IMAGES = ("images", "images_2", "images_4", "images_8", "input", ".")


def matches(folder: Path) -> bool:
    return bool(models(folder))


def models(folder: Path) -> list[Path]:
    """The folders that hold a model: COLMAP writes one for each part of a capture that it could not join."""
    places = [p for root in ROOTS for p in (folder / root, *sorted((folder / root).glob("[0-9]*")))]
    return [p for p in dict.fromkeys(places) if all(_has(p, name) for name in ("cameras", "images"))]


def read(folder: Path) -> Capture:
    """The model with the most images; poses are in COLMAP's frame."""
    model = max((_reconstruction(path) for path in models(folder)), key=lambda m: m.num_reg_images())
    posed = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    root = next((folder / name for name in IMAGES if posed and (folder / name / posed[0].name).is_file()), None)
    root = root or folder / "images"
    paths = [root / image.name for image in posed]
    frames = []
    for i in existing(paths, folder):
        pose = posed[i].cam_from_world().inverse().matrix()
        lens = _lens(model.cameras[posed[i].camera_id], posed[i].name)
        frames.append(Frame(path=paths[i], name=posed[i].name, pose=pose, lens=lens))
    return Capture(frames=frames)


def _reconstruction(path: Path) -> "pycolmap.Reconstruction":
    try:
        import pycolmap
    except ImportError as error:
        raise UserError(f"reading COLMAP's model {path} takes pycolmap: pip install pycolmap") from error
    _check_length(path / "images.bin")
    try:
        return pycolmap.Reconstruction(str(path))
    except Exception as error:  # pycolmap turns COLMAP's checks into exceptions of many kinds
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise UserError(f"cannot read COLMAP's model {path}: {reason}") from error


def _check_length(path: Path) -> None:
    """Raises a UserError for an images.bin that is cut off: pycolmap would wait for a name's end for ever.

    An image is 64 bytes (id, pose, camera), its name up to a 0, and 24 bytes for each of a number of points.
    """
    data = path.read_bytes() if path.is_file() else bytes(8)
    try:
        (images,), at = struct.unpack_from("<Q", data), 8
        for _ in range(images):
            at = data.index(0, at + 64) + 1
            at += 8 + 24 * struct.unpack_from("<Q", data, at)[0]
        complete = at <= len(data)
    except (struct.error, ValueError):
        complete = False
    if not complete:
        raise UserError(f"cannot read COLMAP's model {path.parent}: {path.name} is cut off")


def _lens(camera: "pycolmap.Camera", name: str) -> Lens:
    if camera.model_name not in PARAMETERS:
        supported = ", ".join(PARAMETERS)
        raise UserError(f"{name} has camera model {camera.model_name}, which is not supported: {supported} are")
    model, positions = PARAMETERS[camera.model_name]
    values = np.asarray(camera.params, float)[list(positions)].tolist()
    return Lens(
        size=(camera.width, camera.height),
        focal=tuple(values[:2]),
        centre=tuple(values[2:4]),
        distortion=(*values[4:], 0.0, 0.0, 0.0, 0.0)[:4],
        model=model,
    )


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.bin").is_file() or (folder / f"{name}.txt").is_file()
