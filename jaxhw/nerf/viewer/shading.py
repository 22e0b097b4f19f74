"""What a browser draws of a rendered picture: its colours, depth or opacity, and how far away each pixel is."""

import jax
import numpy as np

from jaxhw.nerf.cameras.cameras import Cameras, pixel_centres
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.results import panels

MODES = ("colour", "depth", "opacity")
SOLID = 0.5  # opacity from which on a pixel hides what is behind it
BEYOND = 160.0  # a distance behind everything that viser can still encode


def picture(rendered: Rendered, mode: str) -> np.ndarray:
    """uint8 [h, w, 3], of one of `MODES`; numbers of a field that diverged count as 0."""
    rendered = jax.tree.map(lambda a: np.nan_to_num(a, nan=0.0, posinf=0.0, neginf=0.0), rendered)
    if mode == "depth":
        return panels.depth_picture(rendered, panels.depth_range(rendered))
    if mode == "opacity":
        return panels.to_uint8(np.repeat(rendered.opacity[..., None], 3, -1))
    return panels.to_uint8(rendered.colour)


def z_depth(rendered: Rendered, camera: Cameras) -> np.ndarray:
    """[h, w] float32 distance of each pixel along a pinhole's axis, by which a browser hides what lies behind it."""
    xy = (pixel_centres(camera.width, camera.height) - camera.centre) / camera.focal
    cosine = 1 / np.sqrt(1 + (xy**2).sum(-1))
    depth = np.nan_to_num(rendered.depth * cosine.reshape(rendered.depth.shape), nan=BEYOND)
    return np.where(rendered.opacity > SOLID, np.clip(depth, 0, BEYOND), BEYOND).astype(np.float32)
