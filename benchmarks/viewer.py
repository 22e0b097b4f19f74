"""How quick the viewer is, and what training loses to it; two minutes for each part, with nothing else computing.

python benchmarks/viewer.py live runs/lego            (a moving camera, then a still one)
python benchmarks/viewer.py training runs/lego 120    (rays a second with a browser, with none, without a viewer)

`live` renders what a browser with a window of 960 x 540 asks for, 480 rows high, on an arc about the scene: pictures a
second while the camera moves in every one of them, and seconds until the picture in its finest size is there when it
stops. Encoding is part of it, the browser's own drawing is not. `training` goes on from a copy of a run's newest
checkpoint for so many steps in each of its turns, in this process; the browser is a connection whose camera moves ten
times a second. The run's scene must lie where the run found it.
"""

import contextlib
import io
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image
from websockets.exceptions import ConnectionClosed

from jaxhw import checkpoint, metrics, train
from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.main import set_up
from jaxhw.nerf.rendering.renderer import Renderer
from jaxhw.nerf.results import trajectories
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.task import Nerf
from jaxhw.nerf.viewer import shading
from jaxhw.nerf.viewer.crop import EVERYWHERE, cropped
from jaxhw.nerf.viewer.render_loop import RenderLoop, View, Wanted
from tests.nerf.viewer.client import Client

SIZE = (854, 480)
MOVING = 20.0  # seconds
TURNS = 2


def live(workdir: Path) -> None:
    """Prints pictures a second while moving, and seconds to the finest picture when still."""
    run = Run.open(workdir, meshes.make_mesh())
    render = Renderer(cropped(run.field), run.renderer.mesh, run.renderer.background, run.field.chunk)
    draw = lambda run, box, camera, first, count: render.part((run.variables, box), camera, first, count)
    loop, shown = RenderLoop(draw, run), []

    def show(picture):
        encoded = io.BytesIO()
        Image.fromarray(shading.picture(picture.rendered, "colour")).save(encoded, "JPEG", quality=60)
        shading.z_depth(picture.rendered, picture.camera)
        shown.append(picture)

    view = View(show, lambda error: print(f"failed: {error}"))
    loop.views.append(view)
    path = trajectories.make("orbit", run.cameras[run.scene.split["train"]], 600).resized(SIZE)
    # The first picture compiles, and tells the speed.
    view.wanted = Wanted(path[0], EVERYWHERE)
    while loop.advance():
        pass
    # Moving: another camera as soon as a picture is there.
    shown.clear()
    began = time.perf_counter()
    while time.perf_counter() - began < MOVING:
        view.wanted, count = Wanted(path[len(shown) % 600], EVERYWHERE), len(shown)
        while len(shown) == count:
            loop.advance()
    rate = len(shown) / (time.perf_counter() - began)
    sides = np.array([(p.camera.width, p.camera.height) for p in shown])
    print(
        f"moving: {rate:.1f} pictures a second, of {np.median(sides[:, 0]):.0f} x {np.median(sides[:, 1]):.0f} pixels"
    )
    # Still: all sizes up to the finest.
    for number in (0, 200, 400):
        began = time.perf_counter()
        view.wanted = Wanted(path[number], EVERYWHERE)
        first = None
        while loop.advance():
            first = first or (shown and shown[-1].wanted is view.wanted and time.perf_counter() - began)
        print(f"still: first picture {first:.2f} s, finest ({SIZE[0]} x {SIZE[1]}) {time.perf_counter() - began:.1f} s")


def training(workdir: Path, steps: int) -> None:
    """Prints the rays a second of turns with a browser, with a viewer that nobody looks at, and with none."""
    rates: dict[str, list[float]] = {"no viewer": [], "viewer, no browser": [], "viewer and browser": []}
    for turn in range(TURNS):
        for name in rates if turn % 2 == 0 else reversed(rates):
            rates[name].append(_turn(workdir, steps, name != "no viewer", name == "viewer and browser"))
            print(f"{name}: {rates[name][-1]:,.0f} rays/s", flush=True)
    best = np.median(rates["no viewer"])
    for name, values in rates.items():
        print(f"{name}: median {np.median(values):,.0f} rays/s ({np.median(values) / best - 1:+.1%})")


def _turn(workdir: Path, steps: int, viewer: bool, browser: bool) -> float:
    """Rays a second of steps that go on from the newest checkpoint; the first log's, which compile, do not count."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(workdir, copy)
        for name in ("results.json", "config.json"):
            (copy / name).unlink(missing_ok=True)
        config = configs.load(workdir / "config.json").copy_and_resolve_references()
        done = checkpoint.newest(workdir)
        with config.unlocked():
            config.update({"viewer": viewer, "viewer_port": 8471, "viewer_share": 0.1})
            config.update(
                {"log_every": steps // 2, "eval_every": 10**6, "eval_all_every": 0, "checkpoint_every": 10**6}
            )
        mesh = meshes.of_config(config)
        ended = threading.Event()
        moving = threading.Thread(target=_move, args=(config.viewer_port, ended), daemon=True)
        if browser:
            moving.start()
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(_Enough):
            train.run(Nerf(config, mesh), config, mesh, copy, (_Stop(done + steps + steps // 2),))
        ended.set()
        lines = [line for line in metrics.read(copy / "metrics.jsonl") if line["step"] > done and "lr" in line]
        return float(np.mean([line["rays_per_second"] for line in lines[1:]]))


class _Enough(Exception):
    pass


class _Stop(train.Observer):
    """Ends a run after a step."""

    def __init__(self, last: int):
        self.last = last

    def after_log(self, step, numbers):
        if step >= self.last:
            raise _Enough


def _move(port: int, ended: threading.Event) -> None:
    """A browser whose camera goes round the scene, once the viewer is there; says how many pictures it got."""
    client, angle = None, 0.0
    while client is None and not ended.wait(0.1):
        with contextlib.suppress(ConnectionError):
            client = Client(f"http://127.0.0.1:{port}")
    while not ended.wait(0.1):
        angle += 0.02
        with contextlib.suppress(ConnectionClosed):  # the run is over
            client.look((3 * np.cos(angle), 3 * np.sin(angle), 1.5), size=(960, 540))
    print(f"{len(client.pictures)} pictures")


if __name__ == "__main__":
    set_up()
    if sys.argv[1] == "live":
        live(Path(sys.argv[2]))
    else:
        training(Path(sys.argv[2]), int(sys.argv[3]))
