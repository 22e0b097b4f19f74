"""A camera path made in the browser: views are added, played, and saved as nerfstudio's JSON for `jaxhw render`."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.results import camera_path, trajectories
from jaxhw.nerf.viewer.cameras import put_browser

FPS = 30.0
SIZE = (960, 540)  # of a video's frames in pixels, where the views' own are of the browser's window


class PathEditor:
    """The path of one browser.

    Args:
      client: viser's.
      view: what the browser shows, as one camera.
      training: the n training cameras, around which an orbit leads.
      to_capture: the scene's.
      workdir: where paths are saved.
    """

    def __init__(
        self,
        client: Any,
        view: Callable[[], Cameras],
        training: Callable[[], Cameras],
        to_capture: np.ndarray,
        workdir: Path,
    ):
        self.client, self.view, self.training = client, view, training
        self.to_capture, self.workdir = to_capture, workdir
        self.keys: list[Cameras] = []
        self.playing = False
        gui = client.gui
        with gui.add_folder("Path", expand_by_default=False):
            self.frames = gui.add_number("frames", 120, min=2, max=10_000, step=1)
            self.told = gui.add_markdown("")
            for label, action in (
                ("add this view", self.add),
                ("take the last one away", self.drop),
                ("orbit", self.orbit),
                ("play", self.play),
                ("save", self.save),
            ):
                gui.add_button(label).on_click(lambda event, action=action: self._do(action))
        self._draw()

    def _do(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (UserError, OSError) as error:
            self.told.content = f"**{error}**"

    def add(self) -> None:
        """The path leads on to what the browser shows."""
        self.keys.append(self.view())
        self._draw()

    def drop(self) -> None:
        """The path ends one view earlier."""
        self.keys = self.keys[:-1]
        self._draw()

    def orbit(self) -> None:
        """The path is that of `jaxhw render --path=orbit`, by a view every so many degrees, once around."""
        made = trajectories.make("orbit", self.training(), 24)
        self.keys = [made[i] for i in (*range(len(made)), 0)]
        self._draw()

    def made(self) -> Cameras:
        """The path's frames.

        Raises:
          UserError: it has no views yet.
        """
        if not self.keys:
            raise UserError("the path has no views yet: add some")
        height = SIZE[1]
        width = 2 * round(height * self.keys[0].width / self.keys[0].height / 2)
        keys = jax.tree.map(lambda *a: np.stack(a), *(key.resized((width, height)) for key in self.keys))
        return trajectories.smooth(keys, int(self.frames.value))

    def play(self) -> None:
        """Leads the browser along the path; played again, it stops."""
        if self.playing:
            self.playing = False
            return
        frames, self.playing = self.made(), True
        began = time.perf_counter()
        while self.playing and (at := int((time.perf_counter() - began) * FPS)) < len(frames):
            put_browser(self.client, frames[at])
            time.sleep(1 / FPS)
        self.playing = False

    def save(self) -> None:
        """Writes camera_path.json into the workdir, or camera_path_2.json and so on beside it."""
        frames = self.made()
        if not self.workdir.is_dir():
            raise UserError(f"{self.workdir} is not there any more: nothing is saved")
        names = (f"camera_path{'' if number == 1 else f'_{number}'}.json" for number in itertools.count(1))
        path = next(there for name in names if not (there := self.workdir / name).exists())
        camera_path.write(path, frames, self.to_capture, FPS)
        self.told.content = f"saved; `jaxhw render --workdir={self.workdir} --path={path}` films it"

    def _draw(self) -> None:
        """The path as a line through its views, in this browser alone."""
        self.told.content = f"{len(self.keys)} views"
        self.client.scene.remove_by_name("/path")
        if len(self.keys) < 2:
            return
        positions = np.asarray(self.made().pose)[:, :, 3]
        self.client.scene.add_line_segments(
            "/path", points=np.stack([positions[:-1], positions[1:]], 1), colors=(204, 121, 167), thickness=3.0,
            thickness_units="screen",
        )  # fmt: skip
