"""Films a trained scene: a video of its colours and one of its depth.

jaxhw render --workdir=runs/lego --path=orbit --frames=120
jaxhw render --workdir=runs/lego --path=camera_path.json       (nerfstudio's; see nerf/results/camera_path.py)
jaxhw render --workdir=runs/room --path=orbit --uncertainty   (and one of how many training cameras saw what it shows)
jaxhw render --workdir=runs/lego --path=test         (held-out views: truth, picture, error and depth side by side)
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxhw import files
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.main import set_up
from jaxhw.options import above, require

if TYPE_CHECKING:  # its imports take seconds, which --help does not need
    from jaxhw.nerf.cameras.cameras import Cameras
    from jaxhw.nerf.rendering.volume import Rendered
    from jaxhw.nerf.results.run import Run

SPLITS = ("train", "val", "test")
LARGEST = 8192  # pixels along a side, which is all that H.264 can hold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir, --path, --scene, --frames, --fps, --scale, --uncertainty, --out."""
    paths = "orbit, ellipse, spiral, interpolate, a nerfstudio camera path (FILE.json), or train, val, test"
    parser.add_argument("--workdir", type=files.path, required=True, help="the run")
    parser.add_argument("--path", default="orbit", help=f"{paths} (default: orbit)")
    parser.add_argument("--scene", default="", help="where the scene's folder lies now, if it was moved (for splits)")
    parser.add_argument("--frames", type=int, default=120, help="of the video (default: 120)")
    parser.add_argument("--fps", type=float, default=30, help="frames a second (default: 30)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the frames over that of the pictures")
    parser.add_argument("--uncertainty", action="store_true", help="also show how many training cameras saw each pixel")
    parser.add_argument("--out", type=files.path, help="folder for the videos (default: the workdir)")


def run(args: argparse.Namespace) -> None:
    """Writes PATH.mp4 and PATH_depth.mp4, or SPLIT.mp4 with four panels; uncertainty is another of either."""
    set_up()
    from jaxhw.nerf.results.run import Run

    for name in ("scale", "fps"):
        require(f"--{name}", getattr(args, name), above(0))
    opened = Run.open(args.workdir, meshes.make_mesh())
    out = args.out or args.workdir
    film = film_split if args.path in SPLITS else film_path
    videos = film(opened, args, out)
    print(f"written: {', '.join(str(video) for video in videos)}")


def film_path(run: "Run", args: argparse.Namespace, out: Path) -> tuple[Path, ...]:
    """Colours, depth and, where asked for, observers along a path; returns the videos."""
    from jaxhw.nerf.results import panels, trajectories, video

    scene = run.scene
    cameras = trajectories.make(args.path, run.cameras[scene.split["train"]], args.frames, scene.to_capture)
    width, height = (max(2, round(side * args.scale)) for side in cameras.size[0])
    if max(width, height) > LARGEST:
        raise UserError(
            f"frames of {width} x {height} pixels are too large: a side has {LARGEST} at most; lower --scale"
        )
    cameras = cameras.resized((width, height))

    observers = observers_panel(run, args)

    def frames() -> Iterator[tuple[np.ndarray, ...]]:
        depths = None  # the colours of all frames mean the depths of the first
        for i in range(len(cameras)):
            rendered = run.render(cameras[i])
            depths = depths or panels.depth_range(rendered)
            yield rendered.colour, panels.depth_picture(rendered, depths), *observers(cameras[i], rendered)

    name = Path(args.path).stem
    kinds = ("", "_depth", "_uncertainty") if args.uncertainty else ("", "_depth")
    videos = tuple(out / f"{name}{kind}.mp4" for kind in kinds)
    files.make_folder(out, "--out")
    video.write_all(videos, frames(), args.fps, total=len(cameras))
    return videos


def observers_panel(run: "Run", args: argparse.Namespace) -> "Callable[[Cameras, Rendered], tuple[np.ndarray, ...]]":
    """What makes a camera's picture of observers, where asked for; nothing else."""
    if not args.uncertainty:
        return lambda camera, rendered: ()
    from jaxhw.nerf.results import depth_maps, panels

    maps = depth_maps.DepthMaps.render(run)

    def panel(camera: "Cameras", rendered: "Rendered") -> tuple[np.ndarray]:
        return (panels.observers_picture(rendered, depth_maps.observers_of(run, maps, camera, rendered)),)

    return panel


def film_split(run: "Run", args: argparse.Namespace, out: Path) -> tuple[Path, ...]:
    """The pictures of a split: truth, what is rendered, their difference, depth; returns the video."""
    from jaxhw.nerf.rendering.renderer import BACKGROUNDS
    from jaxhw.nerf.results import panels, pictures, video
    from jaxhw.nerf.scenes.pictures import over

    place, background = args.scene or run.config.scene, BACKGROUNDS[run.config.background]
    scene = pictures.of_run(run, args.workdir, args.scene)
    chosen = scene.split[args.path]
    if not len(chosen):
        raise UserError(f"the scene {place} has no pictures in its split {args.path}")
    observers = observers_panel(run, args)
    width, height = scene.pictures.size[chosen].max(0).tolist()  # of a panel: pictures may differ in size

    def frames() -> Iterator[np.ndarray]:
        depths = None
        for i in chosen:
            rendered, truth = run.render(run.cameras[i]), over(scene.pictures[i], background)
            depths = depths or panels.depth_range(rendered)
            shown = [panels.beside_truth(truth, rendered, depths), *observers(run.cameras[i], rendered)]
            yield panels.on_white(np.concatenate(shown, 1), (4 + len(shown) - 1) * width, height)

    files.make_folder(out, "--out")
    path = out / f"{args.path}.mp4"
    video.write(path, frames(), args.fps, total=len(chosen))
    return (path,)
