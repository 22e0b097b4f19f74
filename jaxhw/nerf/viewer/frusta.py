"""The scene's cameras as frusta with their pictures; a click on one looks through it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.results.panels import to_uint8
from jaxhw.nerf.scenes.pictures import over
from jaxhw.nerf.scenes.scene import Scene
from jaxhw.nerf.viewer.cameras import to_wxyz, vertical_fov

TRAINING, HELD_OUT, GIVEN = (0, 114, 178), (213, 94, 0), (150, 150, 150)  # colours
SIDE = 96  # pixels of the larger side of a frustum's picture
SCALE = 0.03  # of a frustum, over the scene's size


class Frusta:
    """All frames' cameras: those learnt from in blue, held-out ones in orange.

    Where the run corrects its cameras there are grey ones beside them, as they were before; hidden at first.

    Args:
      clicked: (viser's client, frame) -> None.
    """

    def __init__(self, server: Any, scene: Scene, cameras: Cameras, clicked: Callable[[Any, int], None]):
        self.scene, self.size = scene, extent(scene)
        self.cameras = [cameras[i] for i in range(len(cameras))]
        training = set(scene.split["train"].tolist())
        self.now = [self._add(server, "cameras", i, camera, training) for i, camera in enumerate(self.cameras)]
        for i, handle in enumerate(self.now):
            handle.on_click(lambda event, i=i: clicked(event.client, i))
        self.given = server.scene.add_frame("/given", show_axes=False, visible=False)
        self.moved = not np.array_equal(cameras.pose, scene.cameras.pose)
        for i in scene.split["train"] if self.moved else ():
            self._add(server, "given", i, scene.cameras[i], ())

    def _add(self, server: Any, name: str, frame: int, camera: Cameras, training: Any) -> Any:
        thumbnail = None
        if name == "cameras" and len(self.scene.pictures.table):
            thumbnail = small(self.scene, frame)
        colour = GIVEN if name == "given" else TRAINING if frame in training else HELD_OUT
        return server.scene.add_camera_frustum(
            f"/{name}/{frame}",
            fov=vertical_fov(camera),
            aspect=camera.width / camera.height,
            scale=SCALE * self.size,
            thickness=1.5,
            thickness_units="screen",
            color=colour,
            image=thumbnail,
            format="jpeg",
            wxyz=to_wxyz(np.asarray(camera.pose[:, :3], np.float64)),
            position=np.asarray(camera.pose[:, 3], np.float64),
            cast_shadow=False,
            receive_shadow=False,
        )

    @property
    def depth(self) -> float:
        """How far before its camera the deepest frustum's picture lies, as viser draws it: of one volume whatever the
        angle."""
        y = np.array([np.tan(vertical_fov(camera) / 2) for camera in self.cameras])
        x = y * np.array([camera.width / camera.height for camera in self.cameras])
        return float(SCALE * self.size / np.cbrt(x * y / 3).min())

    def move(self, cameras: Cameras) -> None:
        """To where the corrected cameras are now."""
        for handle, pose in zip(self.now, np.asarray(cameras.pose, np.float64), strict=True):
            handle.position, handle.wxyz = pose[:, 3], to_wxyz(pose[:, :3])


def small(scene: Scene, frame: int) -> np.ndarray:
    """A frame's picture, uint8 [h, w, 3] of `SIDE` pixels at most, on white."""
    picture = Image.fromarray(to_uint8(over(scene.pictures[frame], np.ones(3, np.float32))))
    picture.thumbnail((SIDE, SIDE))
    return np.asarray(picture)


def extent(scene: Scene) -> float:
    """The largest distance between a camera and the middle of all: the scene's size, in its own unit."""
    positions = np.asarray(scene.cameras.pose)[:, :, 3]
    return float(np.linalg.norm(positions - positions.mean(0), axis=1).max()) or 1.0
