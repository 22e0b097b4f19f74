"""One browser: its controls, what it looks at, and the pictures that it gets."""

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxhw.errors import one_line
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.viewer import comparison, shading
from jaxhw.nerf.viewer.cameras import from_browser, put_browser
from jaxhw.nerf.viewer.crop import EVERYWHERE
from jaxhw.nerf.viewer.path_editor import PathEditor
from jaxhw.nerf.viewer.render_loop import Picture, View, Wanted

HEIGHTS = {"240 rows": 240, "480 rows": 480, "720 rows": 720, "1080 rows": 1080}
COARSE, FINE = 60, 90  # JPEG's quality while the camera moves, and when the picture is complete
NOTHING = "points and cameras only"


class Session:
    """A browser's page.

    Two views belong to it: `main`, all of the window, and `frame`, a panel with the frame that was clicked.

    Args:
      client: viser's.
      run: () -> the run as it is now.
      box: [2, 3] corners of the scene, with which the crop box begins.
      wake: called when something is wanted.
    """

    def __init__(self, client: Any, run: Callable[[], Run], box: np.ndarray, workdir: Path, wake: Callable[[], None]):
        self.client, self.run, self.workdir, self.wake = client, run, workdir, wake
        self.lock = threading.RLock()  # viser's threads overtake each other: what was read last is to count
        self.main, self.frame = View(self._show, self._fail), View(self._show_frame, self._fail)
        self.views = (self.main, self.frame)
        self.looking: int | None = None  # the frame in the panel
        self.last: Picture | None = None
        self.saving = False  # whether the next finest picture is a snapshot
        self._add_controls(box)
        client.camera.on_update(lambda _: self.want())
        self.want()

    def _add_controls(self, box: np.ndarray) -> None:
        gui = self.client.gui
        with gui.add_folder("Picture"):
            self.mode = gui.add_dropdown("show", (*shading.MODES, NOTHING))
            self.height = gui.add_dropdown("size", tuple(HEIGHTS), initial_value="480 rows")
            self.problem = gui.add_markdown("")
            gui.add_button("save a snapshot").on_click(lambda _: self.snapshot())
        with gui.add_folder("Crop box", expand_by_default=False):
            self.crops = gui.add_checkbox("crop", False)
            lower, upper = np.asarray(box, float).round(2).tolist()  # what its fields have room for
            self.lower = gui.add_vector3("lower corner", tuple(lower), step=0.01)
            self.upper = gui.add_vector3("upper corner", tuple(upper), step=0.01)
        for control in (self.height, self.crops, self.lower, self.upper):
            control.on_update(lambda _: self._changed())
        self.mode.on_update(lambda _: self._redraw())
        PathEditor(self.client, self.camera, self._training, self.run().scene.to_capture, self.workdir)
        with gui.add_folder("Looking through a camera"):
            self.panel_line = gui.add_markdown("Click a camera: its picture comes here, beside what is rendered.")
            self.panel = gui.add_image(np.full((2, 2, 3), 255, np.uint8), visible=False)

    def camera(self) -> Cameras:
        """What the window shows, as one camera."""
        return from_browser(self.client.camera, HEIGHTS[self.height.value])

    def _training(self) -> Cameras:
        run = self.run()
        return run.cameras[run.scene.split["train"]]

    @property
    def box(self) -> np.ndarray:
        """[2, 3] outside of which nothing is shown."""
        if not self.crops.value:
            return EVERYWHERE
        return np.float32(
            [np.minimum(self.lower.value, self.upper.value), np.maximum(self.lower.value, self.upper.value)]
        )

    def want(self) -> None:
        """Asks for the picture of where the window's camera is now."""
        with self.lock:
            self.main.wanted = None if self.mode.value == NOTHING else Wanted(self.camera(), self.box)
        self.wake()

    def look_through(self, frame: int) -> None:
        """Moves the window to a frame's camera; the panel gets its picture beside the rendering."""
        run = self.run()
        with self.lock:
            self.looking, self.frame.wanted = frame, Wanted(comparison.fitted(run.cameras[frame]), self.box)
        put_browser(self.client, run.cameras[frame])

    def _changed(self) -> None:
        with self.lock:
            self.client.scene.remove_by_name("/crop")
            if self.crops.value:
                low, high = self.box
                self.client.scene.add_box(
                    "/crop", color=(0, 158, 115), dimensions=high - low, wireframe=True, position=(low + high) / 2
                )
            self.want()

    def _redraw(self) -> None:
        """Another mode shows what is there already."""
        with self.lock:
            if self.mode.value == NOTHING:
                self.client.scene.set_background_image(None)
            elif self.last:
                self._show(self.last)
            self.want()

    def _show(self, picture: Picture) -> None:
        with self.lock:
            self.last = picture
            if self.mode.value == NOTHING:
                return
            self.client.scene.set_background_image(
                shading.picture(picture.rendered, self.mode.value),
                format="jpeg",
                jpeg_quality=FINE if picture.finest else COARSE,
                depth=shading.z_depth(picture.rendered, picture.camera),
            )
            self.client.flush()
            if self.problem.content:
                self.problem.content = ""
            if picture.finest and self.saving:
                self._save()

    def _show_frame(self, picture: Picture) -> None:
        with self.lock:
            if not picture.finest or picture.wanted is not self.frame.wanted:  # that of the frame clicked before
                return
            run = self.run()
            self.panel.image, self.panel_line.content = comparison.panel(
                run.scene, self.looking, picture.rendered, run.renderer.background
            )
            self.panel.visible = True

    def _fail(self, error: Exception) -> None:
        self.problem.content = f"**this picture cannot be rendered: {one_line(str(error) or type(error).__name__)}**"

    def snapshot(self) -> None:
        """Saves the picture that is shown, now or as soon as it has its finest size."""
        with self.lock:
            self.saving = True
            if self.last and self.last.finest and self.last.wanted is self.main.wanted:
                self._save()
            else:
                self.problem.content = "the picture is saved when it is complete"

    def _save(self) -> None:
        """Sends the browser the newest picture as a PNG."""
        self.saving, file = False, io.BytesIO()
        Image.fromarray(shading.picture(self.last.rendered, self.mode.value)).save(file, "PNG")
        self.client.send_file_download(
            f"{self.workdir.name}_{self.mode.value}.png", file.getvalue(), save_immediately=True
        )
