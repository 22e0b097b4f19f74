"""Scores of held-out pictures where training cameras were refined, and the gauge moved with them.

`psnr_sim3`: with the held-out cameras moved as the training cameras were, by one similarity. `psnr_half`: with a pose,
and a row of what the field learns for each picture, fitted to the picture's left half; of its right half.
"""

from collections.abc import Sequence

import numpy as np

from jaxhw.nerf.rendering.renderer import Renderer
from jaxhw.nerf.results import quality
from jaxhw.nerf.results.halves import Halves
from jaxhw.nerf.results.posed import Posed
from jaxhw.nerf.scenes.pictures import over
from jaxhw.nerf.scenes.scene import Scene
from jaxhw.process import check_stop
from jaxhw.state import Variables

NOT_RUN = "not run: its mask leaves out every pixel"


def scores(
    posed: Posed, scene: Scene, renderer: Renderer, variables: Variables, frames: Sequence[int], step: int, seed: int
) -> list[dict[str, float | str]]:
    """ "psnr_sim3" and "psnr_half" of frames; nothing of each where no camera was refined or given noise.

    Args:
      variables: the run's.
      step: the run's last.
    """
    if posed.correction is None and scene.true_pose is None:
        return [{} for _ in frames]
    cameras, field = posed.cameras(scene, variables.params), posed.of_field(variables)
    halves = Halves(posed.field, renderer, len(posed.given), posed.options.fit_lr, step)
    found = []
    for i in frames:
        check_stop()
        counts, truth = scene.pictures.mask(i), np.asarray(over(scene.pictures[i], renderer.background))
        colour = renderer(field, cameras[i]).colour
        sim3 = quality.psnr(colour[counts], truth[counts]) if counts.any() else NOT_RUN
        found.append({"psnr_sim3": sim3, "psnr_half": halves(field, cameras[i], scene.pictures, i, seed)})
    return found
