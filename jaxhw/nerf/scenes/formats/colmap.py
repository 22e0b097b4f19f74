"""COLMAP's captures: sparse/0 and its like beside a folder of images."""

from pathlib import Path

from jaxhw.errors import UserError
from jaxhw.nerf.scenes.formats import colmap_model
from jaxhw.nerf.scenes.frames import Capture, Finder, Frame, Lens, existing, is_file, missing

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
    found = models(folder)
    counts = [colmap_model.image_count(path) for path in found]
    model = found[counts.index(max(counts))]
    posed, cameras = colmap_model.images(model), colmap_model.cameras(model)
    find = Finder()
    root = next((folder / name for name in IMAGES if posed and is_file(find(folder / name, posed[0].name))), None)
    root = root or folder / "images"
    paths = [find(root, image.name) for image in posed]
    there = existing(paths, folder)
    frames = []
    for i in there:
        image = posed[i]
        if image.camera not in cameras:
            raise UserError(
                f"cannot read COLMAP's model {model}: {image.name} has camera {image.camera}, which is none"
            )
        lens = _lens(cameras[image.camera], image.name, f"--image_path {root} --input_path {model}")
        frames.append(Frame(path=paths[i], name=image.name, pose=image.pose, lens=lens))
    notes = missing(paths, there, folder)
    if len(found) > 1:
        others = ", ".join(f"{p} with {n}" for p, n in zip(found, counts, strict=True) if p != model)
        notes += (f"{folder} has {len(found)} models: used is {model} with {max(counts)} images, left out {others}",)
    return Capture(frames=frames, root=None if root == folder else root, model=model, notes=notes)


def _lens(camera: colmap_model.Camera, name: str, where: str) -> Lens:
    if camera.model not in PARAMETERS:
        if camera.model == "FULL_OPENCV" and not any(camera.parameters[9:]):
            fx, fy, cx, cy, *distortion = camera.parameters[:9]
            return Lens(camera.size, (fx, fy), (cx, cy), tuple(distortion), "BROWN")
        raise UserError(
            f"{name} has camera model {camera.model}, which is not supported: {', '.join(PARAMETERS)} are; make a copy "
            f"without distortion: colmap image_undistorter {where} --output_path NEW_FOLDER"
        )
    model, positions = PARAMETERS[camera.model]
    values = [camera.parameters[i] for i in positions]
    return Lens(
        size=camera.size,
        focal=tuple(values[:2]),
        centre=tuple(values[2:4]),
        distortion=(*values[4:], 0.0, 0.0, 0.0, 0.0)[:4],
        model=model,
    )


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.bin").is_file() or (folder / f"{name}.txt").is_file()
