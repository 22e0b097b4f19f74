"""Posed pictures: one `Scene`, whatever format they come in."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import PERSPECTIVE, Cameras
from jaxhw.nerf.cameras.normalise import nearest_rotation, normalise
from jaxhw.nerf.scenes import demo
from jaxhw.nerf.scenes.formats import blender, colmap, llff, transforms
from jaxhw.nerf.scenes.frames import Capture, Frame, Lens, check, has_transparency, picture_size, read_picture
from jaxhw.nerf.scenes.splits import split_frames

FORMATS = (blender, transforms, llff, colmap)  # transforms.json before the COLMAP model that it was made from
NEAR, FAR = 0.05, 1000.0  # nerfacto's, where all cameras are in [-1, 1]^3 and the format knows no better


@dataclasses.dataclass(frozen=True)
class Scene:
    """Pictures with their cameras, in a frame that suits training.

    A real capture's frame has z up and all cameras in [-1, 1]^3, around what they look at where there is such a point;
    Blender's scenes keep theirs.

    Attributes:
      cameras: of all n frames (numpy arrays).
      images: uint8 [n, h, w, 3], or [n, h, w, 4] where the format has transparency (colours not multiplied by alpha).
      names: n file names.
      split: int64 indices into the frames, under "train", "val" and "test"; together some or all of them; "val" and
        "test" may be empty, "train" is not.
      near, far: distances along a unit ray between which there is something to see.
      bounds: [2, 3] float32, lower and upper corner of a box around all content where the format knows one, else None.
      unbounded: whether there is a background beyond the objects, so that space has to be contracted.
      to_capture: [4, 4] float64 similarity from this frame to that of the capture (COLMAP's own, where it is known).
    """

    cameras: Cameras
    images: np.ndarray
    names: list[str]
    split: dict[str, np.ndarray]
    near: float
    far: float
    bounds: np.ndarray | None
    unbounded: bool
    to_capture: np.ndarray


def load(scene: str, downscale: int = 1, split: str = "given") -> Scene:
    """Loads a scene.

    Args:
      scene: "demo", the procedural scene of 256 px; or a folder in the format of Blender's scenes, nerfstudio,
        instant-ngp, COLMAP or LLFF, told apart by their files.
      downscale: pictures become this many times smaller, by area averaging; a remainder at the edges is cut off.
      split: "given" by the format; "every:8": frames 0, 8, 16, ... by name are the test set; "fraction:0.9":
        nerfstudio's, that share trains, evenly spread, and the rest is the test set.

    Raises:
      UserError: one line, for whatever is wrong with the folder.
    """
    if downscale < 1:
        raise UserError(f"downscale={downscale} must be 1 or more")
    if scene == "demo":
        return _demo(downscale, split)
    folder = Path(scene).expanduser()
    capture = _read(folder)
    if len(capture.frames) < 2:
        raise UserError(f"{folder} has one image: a scene takes at least two")
    for frame in capture.frames:
        check(frame)
    parts = split_frames([frame.split for frame in capture.frames], split)
    poses, near, far, to_capture = _placed(capture)
    cameras = _cameras(capture.frames, poses, downscale)
    images = _images(capture.frames, (cameras.width, cameras.height), downscale)
    names = [frame.name for frame in capture.frames]
    return Scene(cameras, images, names, parts, near, far, None, capture.unbounded, to_capture)


def _demo(downscale: int, split: str) -> Scene:
    if downscale > demo.SIZE:
        raise UserError(f"downscale={downscale} leaves nothing of images of {demo.SIZE} x {demo.SIZE} pixels")
    cameras, images, given = demo.views(demo.SIZE // downscale)
    names = [f"{name}_{i:03d}" for i, name in enumerate(given)]
    parts = split_frames(given, split)
    return Scene(cameras, images, names, parts, demo.NEAR, demo.FAR, demo.BOUNDS, False, np.eye(4))


def _read(folder: Path) -> Capture:
    if not folder.is_dir():
        raise UserError(f"scene {folder} is not a folder; it may also be demo")
    found = next((format for format in FORMATS if format.matches(folder)), None)
    if found is None:
        raise UserError(
            f"scene {folder} is in no known format: expected transforms_train.json (Blender), transforms.json "
            "(nerfstudio, instant-ngp), poses_bounds.npy (LLFF) or sparse/0/cameras.bin or .txt (COLMAP)"
        )
    return found.read(folder)


def _placed(capture: Capture) -> tuple[np.ndarray, float, float, np.ndarray]:
    """(poses, near, far, to_capture) in the frame of training."""
    poses = np.stack([frame.pose for frame in capture.frames])
    poses[:, :, :3] = nearest_rotation(poses[:, :, :3])
    if not capture.unbounded:
        return poses, capture.near, capture.far, capture.to_capture
    poses, to_old = normalise(poses)
    size = np.cbrt(np.linalg.det(to_old[:3, :3]))
    near, far = (NEAR, FAR) if capture.near is None else (capture.near / size, capture.far / size)
    return poses, near, far, capture.to_capture @ to_old


def _cameras(frames: Sequence[Frame], poses: np.ndarray, downscale: int) -> Cameras:
    """The frames' cameras for their pictures as they are on disk, `downscale` times smaller."""
    sizes = [picture_size(frame.path) for frame in frames]
    odd = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if odd is not None:
        (w0, h0), (w1, h1) = sizes[0], sizes[odd]
        raise UserError(
            f"images of different sizes: {frames[0].name} is {w0} x {h0}, {frames[odd].name} is {w1} x {h1}; "
            "a scene's must all have one size"
        )
    width, height = (side // downscale for side in sizes[0])
    if min(width, height) < 1:
        raise UserError(f"downscale={downscale} leaves nothing of images of {sizes[0][0]} x {sizes[0][1]} pixels")
    smaller = tuple(side / downscale for side in sizes[0])
    lenses = [_fitted(frame, sizes[0]).resized(smaller) for frame in frames]
    arrays = (poses, *([getattr(lens, name) for lens in lenses] for name in ("focal", "centre", "distortion")))
    return Cameras(*(np.asarray(a, np.float32) for a in arrays), width, height, _common_model(frames))


def _fitted(frame: Frame, size: tuple[int, int]) -> Lens:
    """The frame's lens on the pixels of its picture, which may be a smaller copy of what was calibrated."""
    (w, h), (width, height) = frame.lens.size, size
    if abs(w * height - h * width) > 0.02 * w * height:
        raise UserError(f"{frame.name} is {width} x {height}, but its camera is for {w} x {h} pixels, another shape")
    return frame.lens.resized(size)


def _common_model(frames: Sequence[Frame]) -> str:
    """The simplest model that has all the frames' models as special cases."""
    models = {frame.lens.model for frame in frames}
    if models == {"OPENCV_FISHEYE"}:
        return "OPENCV_FISHEYE"
    if "OPENCV_FISHEYE" in models:
        raise UserError(f"{frames[0].path.parent} mixes fisheye and perspective cameras: train them separately")
    if not any(any(frame.lens.distortion) for frame in frames):
        return "PINHOLE"
    return max(models, key=PERSPECTIVE.index)


def _images(frames: Sequence[Frame], size: tuple[int, int], downscale: int) -> np.ndarray:
    """uint8 [n, h, w, 3], or [n, h, w, 4] if any picture is transparent anywhere."""
    width, height = size
    transparent = any(has_transparency(frame.path) for frame in frames)
    out = np.full((len(frames), height, width, 4 if transparent else 3), 255, np.uint8)

    def put(i: int) -> None:
        picture = read_picture(frames[i].path, downscale)
        out[i, ..., : picture.shape[-1]] = picture

    with ThreadPoolExecutor(thread_name_prefix="decode") as pool:
        for _ in tqdm(pool.map(put, range(len(frames))), "reading images", len(frames), delay=3, leave=False):
            pass
    return out if transparent and out[..., 3].min() < 255 else out[..., :3]
