"""Shows a run in a browser, also while it trains.

jaxhw view --workdir=runs/lego       (a scene: rendered live, with its cameras; paths for jaxhw render)
jaxhw view --workdir=runs/vit        (images: curves, confusions, worst pictures, nearest neighbours)

The page is for this machine alone; the line that is printed says how to reach it from another. To watch a scene while
it trains, train it with --config.viewer=True.
"""

import argparse
import multiprocessing
from typing import TYPE_CHECKING

from jaxhw import config as configs
from jaxhw import files
from jaxhw import mesh as meshes
from jaxhw.errors import UserError, warn
from jaxhw.main import set_up
from jaxhw.options import at_least, below, require
from jaxhw.process import StopRequest
from jaxhw.serving import LOCAL, PORT, Address

if TYPE_CHECKING:  # its imports take seconds, which --help does not need
    from jaxhw.nerf.results.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--workdir, --port, --host, --scene, --dataset, --share."""
    parser.add_argument("--workdir", type=files.path, required=True, help="the run")
    parser.add_argument("--port", type=int, default=PORT, help=f"(default: {PORT})")
    parser.add_argument("--host", default=LOCAL, help=f"who is let in; 0.0.0.0: everybody (default: {LOCAL})")
    parser.add_argument("--scene", default="", help="where the scene's folder lies now, if it was moved")
    parser.add_argument("--dataset", default="", help="where the run's data set lies now, if it was moved")
    parser.add_argument("--share", action="store_true", help="ask viser's server for an address that all can open")


def run(args: argparse.Namespace) -> None:
    """Serves the page until it is asked to stop."""
    require("--port", args.port, at_least(1), below(2**16), kind=int)
    set_up()
    task = configs.load(args.workdir / "config.json").get("task")
    with StopRequest() as stop:
        (_scene if task == "nerf" else _images)(args, Address(args.host, args.port), stop)


def _scene(args: argparse.Namespace, address: Address, stop: StopRequest) -> None:
    from jaxhw.nerf.results.run import Run
    from jaxhw.nerf.viewer.following import Following
    from jaxhw.nerf.viewer.viewer import Viewer

    address.check_free("--port")
    mesh = meshes.make_mesh()
    opened = with_pictures(Run.open(args.workdir, mesh), args)
    viewer = Viewer(opened, args.workdir, address, "--port")
    again = lambda: Run.open(args.workdir, mesh).with_scene(opened.scene)
    following = Following(viewer, args.workdir, again, opened.config.steps)
    print(address.lines(), flush=True)
    try:
        if args.share:
            # viser's tunnel is a process of its own, and JAX's threads survive no fork.
            multiprocessing.set_start_method("spawn", force=True)
            print(f"shared: {viewer.share()}", flush=True)
        while not stop.asked:
            following.look()
            if not viewer.advance():
                viewer.wait(0.2)
    finally:
        viewer.close()


def with_pictures(run: "Run", args: argparse.Namespace) -> "Run":
    """The run with its scene's pictures, where they still lie; else a line says that they do not."""
    from jaxhw.nerf.results import pictures

    try:
        return run.with_scene(pictures.of_run(run, args.workdir, args.scene))
    except UserError as error:
        if args.scene:
            raise
        warn(f"shown without pictures: {error}")
        return run


def _images(args: argparse.Namespace, address: Address, stop: StopRequest) -> None:
    from jaxhw.vision.viewer.page import serve

    address.check_free("--port")
    if args.share:
        raise UserError("--share is for scenes: nothing shares a page of pictures")
    serve(args.workdir, args.dataset, address, stop)
