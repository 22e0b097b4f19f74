"""The pictures that a run was trained on, from where they lie."""

import dataclasses
from pathlib import Path

from jaxhw import contents
from jaxhw.errors import UserError
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.scenes import scene as scenes
from jaxhw.nerf.scenes.scene import Scene


def of_run(run: Run, workdir: Path, place: str = "") -> Scene:
    """The run's own scene with its pictures.

    Args:
      place: where the scene's folder lies now; empty: where the run found it.

    Raises:
      UserError: it is not there, or holds other pictures.
    """
    place, moved = place or run.config.scene, bool(place)
    if place != "demo" and not moved and not Path(place).expanduser().exists():
        raise UserError(f"the run's scene {place} is not there: if it was moved, name its new place with --scene=DIR")
    scene = scenes.from_config(run.config, place)
    if scene.content:
        contents.check(workdir, {"scene": scene.content}, {"scene": f"the scene {place}"})
    if scene.names != run.scene.names:  # all that older runs kept
        raise UserError(f"the scene {place} holds other pictures than the run in {workdir} was trained on")
    return dataclasses.replace(run.scene, pictures=scene.pictures)
