"""A frame's picture beside what is rendered of it: looking through a camera."""

import numpy as np
from PIL import Image

from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.results import panels, quality
from jaxhw.nerf.scenes.pictures import over
from jaxhw.nerf.scenes.scene import Scene
from jaxhw.nerf.viewer import shading

SIDE = 320  # pixels of a panel's larger side


def fitted(camera: Cameras) -> Cameras:
    """The camera at the size of a panel; never larger than its picture."""
    size = np.asarray(camera.size)
    scale = min(1.0, SIDE / size.max())
    return camera.resized(np.maximum(1, np.round(size * scale)).astype(int))


def panel(scene: Scene, frame: int, rendered: Rendered, background: np.ndarray) -> tuple[np.ndarray, str]:
    """(uint8 picture, a line below it): truth and rendering above, error and depth below.

    Without the scene's pictures it is the rendering beside its depth.
    """
    depth, name = shading.picture(rendered, "depth"), scene.names[frame]
    if not len(scene.pictures.table):
        shown = np.concatenate([shading.picture(rendered, "colour"), depth], 1)
        return shown, f"{name}: rendered, depth (its picture is not where the run found it)"
    height, width = rendered.depth.shape
    truth = panels.to_uint8(over(scene.pictures[frame], background))
    truth = np.asarray(Image.fromarray(truth).resize((width, height), Image.Resampling.BOX)) / np.float32(255)
    error = panels.error_picture(rendered.colour, truth)
    above = np.concatenate([panels.to_uint8(truth), shading.picture(rendered, "colour")], 1)
    psnr = quality.psnr(rendered.colour, truth)
    line = f"{name}: picture, rendered; error, depth. {psnr:.2f} dB at {width} x {height}"
    return np.concatenate([above, np.concatenate([error, depth], 1)], 0), line
