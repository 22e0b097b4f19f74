"""The page of a scene: what all browsers see of it, and a session for each of them.

viser's threads call what a browser clicks; rendering is done by whoever calls `advance`, alone.
"""

import contextlib
import io
import logging
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxhw.errors import UserError, one_line
from jaxhw.nerf.cameras.normalise import centre_of
from jaxhw.nerf.rendering.renderer import Renderer
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.viewer import clouds
from jaxhw.nerf.viewer.cameras import vertical_fov
from jaxhw.nerf.viewer.crop import cropped
from jaxhw.nerf.viewer.frusta import Frusta
from jaxhw.nerf.viewer.render_loop import RenderLoop
from jaxhw.nerf.viewer.session import Session
from jaxhw.serving import Address

LAST = 0.2  # seconds for a last line to reach the browsers
PATIENCE = 30.0  # seconds for viser's server to give an address; of itself viser waits for ever


class Viewer:
    """A server for browsers.

    Args:
      run: what is shown at first; its scene may have its pictures.
      workdir: where paths are saved, and exported clouds lie.
      address: where to listen.
      flag: where the port was named, for an error.

    Raises:
      UserError: the port is taken.
    """

    def __init__(self, run: Run, workdir: Path, address: Address, flag: str):
        address.check_free(flag)
        import viser  # takes a second

        warnings.filterwarnings("ignore", "Queued a .* on a closed connection")  # a picture for a browser that has left

        self.current, self.workdir = run, workdir
        render = Renderer(cropped(run.field), run.renderer.mesh, run.renderer.background, run.field.chunk)
        draw = lambda run, box, camera, first, count: render.part((run.variables, box), camera, first, count)
        self.loop = RenderLoop(draw, run)
        self.sessions: dict[int, Session] = {}
        self.woken = threading.Event()
        # The page that all browsers share.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)  # a traceback for each half-open connection
        with contextlib.redirect_stdout(io.StringIO()):  # its own banner, which lacks the way in from elsewhere
            self.server = viser.ViserServer(host=address.host, port=address.port, label="jaxhw", verbose=False)
        if self.server.get_port() != address.port:  # somebody took it just now, and viser went on to another
            self.server.stop()
            raise UserError(f"port {address.port} is in use; choose another with {flag}")
        # Any browser's page can ask viser to let everybody in, also without a button for it: only `share` does.
        self.open_tunnel, self.server.request_share_url = self.server.request_share_url, lambda: None
        self.server.gui.configure_theme(control_width="large", show_logo=False, show_share_button=False)
        self.server.scene.set_up_direction("+z")
        self._add_status()
        self._add_scene()
        self._place_camera()
        self.server.on_client_connect(self._connected)
        self.server.on_client_disconnect(self._gone)

    def _add_status(self) -> None:
        gui = self.server.gui
        self.title = gui.add_markdown(f"**{self.workdir}**")
        self.status, self.bar = gui.add_markdown(""), gui.add_progress_bar(0.0)

    def _add_scene(self) -> None:
        run, gui, shown = self.current, self.server.gui, {}
        self.frusta = Frusta(self.server, run.scene, run.cameras, self._clicked)
        try:
            shown = clouds.add(self.server, run.scene, self.workdir, self.frusta.size)
        except UserError as error:
            self.tell(str(error))
        with gui.add_folder("Scene"):
            cameras = gui.add_checkbox("cameras", True)
            cameras.on_update(lambda _: self.set_visible(self.frusta.now, cameras.value))
            if self.frusta.moved:
                given = gui.add_checkbox("cameras before refinement", False)
                given.on_update(lambda _: self.set_visible([self.frusta.given], given.value))
            for name, handle in shown.items():
                box = gui.add_checkbox(name, False)
                box.on_update(lambda _, box=box, handle=handle: self.set_visible([handle], box.value))

    @staticmethod
    def set_visible(handles: list[Any], visible: bool) -> None:
        for handle in handles:
            handle.visible = visible

    def _place_camera(self) -> None:
        """Browsers begin where the first training picture was taken, and turn around what the cameras look at."""
        run = self.current
        camera = run.cameras[run.scene.split["train"][0]]
        pose, start = np.asarray(camera.pose, np.float64), self.server.initial_camera
        ahead = max((centre_of(np.asarray(run.cameras.pose, np.float64))[0] - pose[:, 3]) @ pose[:, 2], 0.1)
        start.position, start.look_at = pose[:, 3], pose[:, 3] + ahead * pose[:, 2]
        start.fov = vertical_fov(camera)
        start.near = 1.05 * self.frusta.depth  # else a frustum's picture hides the scene from who looks through it

    @property
    def watched(self) -> bool:
        """Whether any browser is connected."""
        return bool(self.sessions)

    def _connected(self, client: Any) -> None:
        session = Session(client, lambda: self.current, self.box(), self.workdir, self.woken.set)
        self.sessions[client.client_id] = session
        self.loop.views.extend(session.views)
        self.woken.set()
        if client.client_id not in self.server.get_clients():  # it left while its page was made
            self._gone(client)

    def _gone(self, client: Any) -> None:
        session = self.sessions.pop(client.client_id, None)
        for view in session.views if session else ():
            self.loop.views.remove(view)

    def _clicked(self, client: Any, frame: int) -> None:
        if client and client.client_id in self.sessions:
            self.sessions[client.client_id].look_through(frame)

    def box(self) -> np.ndarray:
        """[2, 3] corners around the scene's content, as far as they are known: else around the cameras."""
        scene = self.current.scene
        if scene.bounds is not None:
            return np.asarray(scene.bounds)
        if len(scene.points):
            return np.percentile(scene.points, (2, 98), axis=0).astype(np.float32)
        half = self.frusta.size / 2
        middle = centre_of(np.asarray(scene.cameras.pose, np.float64))[0]
        return np.float32([middle - half, middle + half])

    def update(self, run: Run) -> None:
        """Shows newer variables."""
        moved = self.frusta.moved or not np.array_equal(run.cameras.pose, self.current.cameras.pose)
        self.current = run
        self.loop.renew(run)
        if moved:
            self.frusta.move(run.cameras)

    def advance(self) -> bool:
        """Renders one chunk for the browser whose turn it is; False if there is nothing to render."""
        return self.loop.advance()

    def wait(self, seconds: float) -> None:
        """Returns when a browser wants something, or after so long."""
        self.woken.wait(seconds)
        self.woken.clear()

    def tell(self, line: str, progress: float | None = None) -> None:
        """Puts a line under the title of all pages, and the share of the run that is done into the bar."""
        self.status.content = one_line(line)
        if progress is not None:
            self.bar.value = 100 * min(max(progress, 0.0), 1.0)

    def share(self) -> str:
        """An address that everybody can open, through viser's own server.

        Raises:
          UserError: that server gives none.
        """
        found: list[str | None] = []
        asking = threading.Thread(target=lambda: found.append(self.open_tunnel(verbose=False)), daemon=True)
        asking.start()
        asking.join(PATIENCE)
        if not any(found):
            raise UserError("viser's server gives no address to share; without --share the page is for this machine")
        return found[0]

    def close(self, last: str = "") -> None:
        """Ends the server; the pages say that they have lost it, below a last line."""
        if last and self.watched:
            self.tell(last)
            self.server.flush()
            time.sleep(LAST)
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()
