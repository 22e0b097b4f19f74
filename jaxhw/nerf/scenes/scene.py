"""Posed pictures: one `Scene`, whatever format they come in.

Pictures may differ in size and come from several cameras. In shapes, n counts the scene's frames.
"""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from jaxhw import contents, options, streams
from jaxhw.contents import Content
from jaxhw.decoding import CAN_BE_WHITE, WHITE, Levels
from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import PERSPECTIVE, Cameras
from jaxhw.nerf.scenes import blank, demo, masks, placing, points, report, sizes
from jaxhw.nerf.scenes.decoding import has_transparency, picture_size, read_picture
from jaxhw.nerf.scenes.duplicates import unique
from jaxhw.nerf.scenes.formats import blender, colmap, llff, transforms
from jaxhw.nerf.scenes.frames import Capture, Frame, Lens, check
from jaxhw.nerf.scenes.pictures import Pictures
from jaxhw.nerf.scenes.splits import split_frames

FORMATS = (blender, transforms, llff, colmap)  # transforms.json before the COLMAP model that it was made from


@dataclasses.dataclass(frozen=True)
class Scene:
    """Pictures with their cameras, in a frame that suits training.

    A real capture's frame has z up and all cameras in [-1, 1]^3, around what they look at where there is such a point;
    Blender's scenes keep theirs.

    Attributes:
      cameras: of all n frames (numpy arrays).
      pictures: of all n frames; of no pixels in a scene that `jaxhw.nerf.scenes.saved` read back.
      names: n file names.
      split: int64 indices into the frames, under "train", "val" and "test"; together some or all of them; "val" and
        "test" may be empty, "train" is not.
      near, far: distances along a unit ray between which there is something to see.
      bounds: [2, 3] float32, lower and upper corner of a box around all content of the demo; None for folders.
      unbounded: whether there is a background beyond the objects, so that space has to be contracted.
      to_capture: [4, 4] float64 similarity from this frame to that of the capture (COLMAP's, where it is known).
      near_from: what `near` is from: "format" (then `far` is as well), "points", or "guess".
      points: [k, 3] float32, where structure from motion found something; k is 0 where a scene comes without.
      content: what the folder holds; None of the demo, and of a scene that was read back.
      true_pose: [n, 3, 4] float32 of all frames, where those of `cameras` have noise; else None.
    """

    cameras: Cameras
    pictures: Pictures
    names: list[str]
    split: dict[str, np.ndarray]
    near: float
    far: float
    bounds: np.ndarray | None
    unbounded: bool
    to_capture: np.ndarray
    near_from: str = "format"
    points: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 3), np.float32))
    content: Content | None = None
    true_pose: np.ndarray | None = None


def from_config(config: ConfigDict, scene: str = "") -> Scene:
    """The scene that a run's config names, or another one; older workdirs lack `white` and `max_pixels`."""
    most, white = config.get("max_pixels", sizes.MAX_PIXELS), config.get("white", WHITE)
    return load(scene or config.scene, config.downscale, config.split, white, most)


def load(
    scene: str,
    downscale: int | str = 1,
    split: str = "given",
    white: int = WHITE,
    max_pixels: int = sizes.MAX_PIXELS,
) -> Scene:
    """Loads a scene.

    Args:
      scene: "demo", the procedural scene of 256 px; "blank:IMAGES:SIZE[:unbounded]", which shows nothing; or a folder
        in the format of Blender's scenes, nerfstudio, instant-ngp, COLMAP or LLFF, told apart by their files.
      downscale: pictures become this many times smaller, by area averaging; a remainder at the edges is cut off.
        "auto" is the smallest whole number at which all pictures together have at most `max_pixels`.
      split: "given" by the format; "every:8": frames 0, 8, 16, ... by name are the test set; "fraction:0.9":
        nerfstudio's, that share trains, evenly spread, and the rest is the test set; "auto": "given" where the format
        gives a split, else "fraction:0.9".
      white: the value that is white in pictures of 16-bit grey.

    Raises:
      UserError: one line, for whatever is wrong with the folder.
    """
    size = sizes.Wanted.checked(downscale, max_pixels)
    options.require("config.white", white, CAN_BE_WHITE, kind=int)
    if scene == "demo":
        return _demo(size, split)
    if found := blank.parse(scene):
        return _blank(*found)
    return _load_folder(Path(scene).expanduser(), size, split, Levels(white))


def _load_folder(folder: Path, size: sizes.Wanted, split: str, levels: Levels) -> Scene:
    # What the folder's format says, checked: after this every frame has a file and a possible camera.
    folder, capture = _read(folder)
    if len(capture.frames) < 2:
        raise UserError(f"{folder} has one image: a scene takes at least two")
    for frame in capture.frames:
        check(frame)
    frames, repeated = unique(capture.frames)
    if len(frames) < 2:
        raise UserError(f"{folder} has one image, listed {len(capture.frames)} times: a scene takes at least two")
    frames, turned = placing.oriented(masks.found(frames, folder))
    parts = split_frames([frame.split for frame in frames], split)

    # Cameras before pictures: their errors show in a second, while decoding pictures may take minutes.
    placed = placing.placed(dataclasses.replace(capture, frames=frames), folder)
    on_disk = np.array([picture_size(frame.path, frame.upright) for frame in frames])
    names = [frame.name for frame in frames]
    downscale, chosen = size.downscale(on_disk, names)
    cameras = _cameras(frames, placed.poses, on_disk, downscale)
    near, near_from = _near(placed, cameras)
    for note in (*capture.notes, *repeated, *turned, *placed.notes, *chosen):
        report.say(note)
    report.summary(folder, frames, parts, capture)
    pictures = _pictures(frames, cameras.size, downscale, levels)
    levels.warn_if_narrow(str(folder))
    if not any(pictures.mask(i).any() for i in parts["train"]):
        masked = next(frames[i].mask for i in parts["train"])
        raise UserError(f"{folder}: the masks leave no pixel to train on; {masked} is one of them")
    return Scene(
        cameras=cameras,
        pictures=pictures,
        names=names,
        split=parts,
        near=near,
        far=placed.far,
        bounds=None,
        unbounded=capture.unbounded,
        to_capture=placed.to_capture,
        near_from=near_from,
        points=placed.points,
        content=contents.of("scene", folder, (f.path for f in frames), beside=(f.mask for f in frames if f.mask)),
    )


def _near(placed: placing.Placed, cameras: Cameras) -> tuple[float, str]:
    """(the scene's near, what it is from)."""
    if not placed.guessed:
        return placed.near, "format"
    found = points.near(cameras, placed.points)
    return (placed.near, "guess") if found is None else (found, "points")


def _demo(size: sizes.Wanted, split: str) -> Scene:
    count = sum(demo.VIEWS.values())
    downscale, chosen = size.downscale(np.full((count, 2), demo.SIZE), ["the demo's first picture"] * count)
    for note in chosen:
        report.say(note)
    cameras, pictures, given = demo.render_pictures(demo.SIZE // downscale)
    return Scene(
        cameras=cameras,
        pictures=pictures,
        names=[f"{name}_{i:03d}" for i, name in enumerate(given)],
        split=split_frames(given, split),
        near=demo.NEAR,
        far=demo.FAR,
        bounds=demo.BOUNDS,
        unbounded=False,
        to_capture=np.eye(4),
    )


def _blank(count: int, size: int, unbounded: bool) -> Scene:
    cameras, pictures = blank.cameras_and_pictures(count, size, unbounded)
    near, far = blank.NEAR_FAR[unbounded]
    return Scene(
        cameras=cameras,
        pictures=pictures,
        names=[f"blank_{i}" for i in range(count)],
        split=split_frames(["train"] * count, "given"),
        near=near,
        far=far,
        bounds=None,
        unbounded=unbounded,
        to_capture=np.eye(4),
        near_from="guess" if unbounded else "format",
    )


def _read(path: Path) -> tuple[Path, Capture]:
    """(the folder, what is in it); the path of a transforms.json stands for its folder."""
    if path.suffix.lower() == ".json" and path.is_file():
        if path.name == transforms.FILE:
            return path.parent, transforms.read(path.parent)
        if path.name == blender.FILE:
            return path.parent, blender.read(path.parent)
        raise UserError(f"scene {path} is no folder: name the folder, with the file called {transforms.FILE} in it")
    if not path.is_dir():
        raise UserError(f"scene {path} is not a folder: if it was moved, name its new place; it may also be demo")
    found = next((format for format in FORMATS if format.matches(path)), None)
    if found is None:
        raise UserError(
            f"scene {path} is in no known format: expected transforms_train.json (Blender), transforms.json "
            "(nerfstudio, instant-ngp), poses_bounds.npy (LLFF) or sparse/0/cameras.bin or .txt (COLMAP)"
        )
    return path, found.read(path)


def _cameras(frames: Sequence[Frame], poses: np.ndarray, on_disk: np.ndarray, downscale: int) -> Cameras:
    """The frames' cameras for their pictures, of sizes [n, 2] on the disk, each `downscale` times smaller."""
    # The remainder that downscaling cuts off does not count among the smaller pixels: hence no whole numbers here.
    lenses = [
        _fitted(frame, (width, height)).resized((width / downscale, height / downscale))
        for frame, (width, height) in zip(frames, on_disk.tolist(), strict=True)
    ]
    return Cameras(
        pose=np.asarray(poses, np.float32),
        focal=np.asarray([lens.focal for lens in lenses], np.float32),
        centre=np.asarray([lens.centre for lens in lenses], np.float32),
        distortion=_distortions(lenses),
        size=(on_disk // downscale).astype(np.int32),
        model=_common_model(frames),
    )


def _distortions(lenses: Sequence[Lens]) -> np.ndarray:
    """[n, 4 or 5] float32: a model's special cases have fewer parameters, and 0 for the rest."""
    width = max(len(lens.distortion) for lens in lenses)
    return np.asarray([(*lens.distortion, 0.0)[:width] for lens in lenses], np.float32)


def _fitted(frame: Frame, size: tuple[int, int]) -> Lens:
    """The frame's lens on the pixels of its picture, which may be a smaller copy of what was calibrated."""
    (w, h), (width, height) = frame.lens.size, size
    if not placing.same_shape(frame.lens.size, size):
        raise UserError(
            f"{frame.name} is {width} x {height}, but its camera is for {w} x {h} pixels, another shape (and its EXIF "
            "orientation does not explain it)"
        )
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


def _pictures(frames: Sequence[Frame], size: np.ndarray, downscale: int, levels: Levels) -> Pictures:
    """The frames' pictures of sizes [n, 2] with their masks; with alpha if any is transparent anywhere."""
    transparent = any(has_transparency(frame.path) for frame in frames)
    pictures = Pictures.blank(size, 4 if transparent else 3)

    def read(i: int) -> np.ndarray | None:
        """Decodes frame i into its place and returns its mask."""
        picture = read_picture(frames[i].path, downscale, frames[i].upright, levels)
        pictures[i][..., : picture.shape[-1]] = picture
        return masks.read(frames[i], downscale) if frames[i].mask else None

    with ThreadPoolExecutor(thread_name_prefix="decode") as pool:
        reading = pool.map(read, range(len(frames)))
        found = list(streams.bar(reading, "reading images", len(frames), "image"))

    # An alpha that is opaque everywhere says nothing, and costs a quarter of every step's transfer.
    if transparent and pictures.table[:, 3].min() == 255:
        pictures = dataclasses.replace(pictures, table=pictures.table[:, :3])
    return pictures.masked(found)
