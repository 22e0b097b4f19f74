"""Films a trained scene: a video of its colours and one of its depth.

jaxhw render --workdir=runs/lego --path=orbit --frames=120
jaxhw render --workdir=runs/lego --path=camera_path.json       (nerfstudio's; see `from_json` in nerf/trajectories.py)
jaxhw render --workdir=runs/lego --path=test         (held-out views: truth, picture, error and depth side by side)
"""

import argparse
import math
from pathlib import Path

from jaxhw import config as configs
from jaxhw import files
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.main import set_up

SPLITS = ("train", "val", "test")
LARGEST = 8192  # pixels along a side, which is all that H.264 can hold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir, --path, --frames, --fps, --scale, --out."""
    paths = "orbit, ellipse, spiral, interpolate, a nerfstudio camera path (FILE.json), or train, val, test"
    parser.add_argument("--workdir", type=files.path, required=True, help="the run")
    parser.add_argument("--path", default="orbit", help=f"{paths} (default: orbit)")
    parser.add_argument("--frames", type=int, default=120, help="of the video (default: 120)")
    parser.add_argument("--fps", type=float, default=30, help="frames a second (default: 30)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the frames over that of the pictures")
    parser.add_argument("--out", type=files.path, help="folder for the videos (default: the workdir)")


def run(args: argparse.Namespace) -> None:
    """Writes PATH.mp4 and PATH_depth.mp4, or SPLIT.mp4 with four panels."""
    set_up()
    from jaxhw.nerf.rendering import renderer as render
    from jaxhw.nerf.results import trajectories, video

    for name in ("scale", "fps"):
        if not 0 < getattr(args, name) < math.inf:
            raise UserError(f"{name}={getattr(args, name)} must be a number greater than 0")
    renderer, variables, scene = render.from_workdir(args.workdir, meshes.make_mesh())
    out = args.out or args.workdir
    if args.path in SPLITS:
        return beside_truth(args, renderer, variables, out)
    path = trajectories.make(args.path, scene.cameras[scene.split["train"]], args.frames, scene.to_capture)
    width, height = (max(2, round(side * args.scale)) for side in (path.width, path.height))
    if max(width, height) > LARGEST:
        raise UserError(
            f"frames of {width} x {height} pixels are too large: a side has {LARGEST} at most; lower --scale"
        )
    path, ends = path.resized(width, height), None

    def frames():
        nonlocal ends
        for i in range(len(path)):
            seen = renderer(variables, path[i])
            ends = ends or video.depth_range(seen.depth, seen.opacity)
            yield seen.rgb, video.depth_picture(seen.depth, seen.opacity, *ends)

    name = Path(args.path).stem
    videos = out / f"{name}.mp4", out / f"{name}_depth.mp4"
    files.make_folder(out, "--out")
    video.write_all(videos, frames(), args.fps, total=len(path))
    print(f"written: {videos[0]}, {videos[1]}")


def beside_truth(args: argparse.Namespace, renderer, variables, out: Path) -> None:
    """The pictures of a split: truth, what is rendered, their difference, depth."""
    from jaxhw.nerf import task
    from jaxhw.nerf.rendering import renderer as render
    from jaxhw.nerf.results import video
    from jaxhw.nerf.scenes import scene as scenes

    config = configs.load(args.workdir / "config.json")
    scene = scenes.load(config.scene, config.downscale, config.split)
    if not len(scene.split[args.path]):
        raise UserError(f"the scene {config.scene} has no pictures in its split {args.path}")
    ends = None

    def frames():
        nonlocal ends
        for i in scene.split[args.path]:
            seen, truth = (
                renderer(variables, scene.cameras[i]),
                task.over(scene.images[i], render.BACKGROUNDS[config.background]),
            )
            ends = ends or video.depth_range(seen.depth, seen.opacity)
            depth = video.depth_picture(seen.depth, seen.opacity, *ends)
            yield video.beside(truth, seen.rgb, video.error_picture(seen.rgb, truth), depth)

    files.make_folder(out, "--out")
    video.write(out / f"{args.path}.mp4", frames(), args.fps, total=len(scene.split[args.path]))
    print(f"written: {out / f'{args.path}.mp4'}")
