"""Scenes that show nothing, `blank:IMAGES:SIZE[:unbounded]`: to plan a run where its pictures are not."""

import re

import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.cameras.circling import circling, hemisphere
from jaxhw.nerf.scenes.pictures import Pictures

FIELD_OF_VIEW = 0.691  # radians; Blender's scenes'
DISTANCE = {False: 4.0, True: 1.0}  # of the cameras from what they look at, by whether there is a background
NEAR_FAR = {False: (2.0, 6.0), True: (0.05, 1000.0)}


def parse(scene: str) -> tuple[int, int, bool] | None:
    """(pictures, pixels a side, whether there is a background) of a blank scene; None of others.

    Raises:
      UserError: it is written in another way.
    """
    if not scene.startswith("blank:"):
        return None
    found = re.fullmatch(r"blank:([1-9]\d*):([1-9]\d*)(:unbounded)?", scene)
    if not found:
        raise UserError(f"scene {scene} must be blank:IMAGES:SIZE or blank:IMAGES:SIZE:unbounded")
    return int(found[1]), int(found[2]), bool(found[3])


def cameras_and_pictures(count: int, size: int, unbounded: bool) -> tuple[Cameras, Pictures]:
    """White pictures by cameras all around on the upper hemisphere."""
    cameras = circling(hemisphere(count), DISTANCE[unbounded], size, FIELD_OF_VIEW)
    return cameras, Pictures.blank(np.full((count, 2), size), 3)
