"""A run's workdir opened for use: rendering, filming, export. The pictures it was trained on need not be there."""

import dataclasses
import math
from pathlib import Path
from typing import Self

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import checkpoint
from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.decoding import WHITE
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.fields import registry
from jaxhw.nerf.fields.field import Field, Setting
from jaxhw.nerf.rendering.renderer import BACKGROUNDS, Renderer
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.results.posed import Posed, options_of
from jaxhw.nerf.scenes import saved
from jaxhw.nerf.scenes.scene import Scene
from jaxhw.state import Variables


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained scene: the newest checkpoint's variables and what renders them.

    Attributes:
      scene: without its pictures; its cameras are the given ones.
      variables: the field's.
      cameras: of all frames, refined where the run refined them; see `Posed.cameras`.
      rows: the corrections of the training cameras; None where there are none.
    """

    config: ConfigDict
    scene: Scene
    field: Field
    variables: Variables
    renderer: Renderer
    cameras: Cameras
    posed: Posed | None = None
    rows: jax.Array | None = None

    @classmethod
    def open(cls, workdir: Path, mesh: Mesh) -> Self:
        """Opens a workdir on whatever devices there are.

        Raises:
          UserError: the workdir is none of a NeRF run, or holds no checkpoint yet.
        """
        config, scene = configs.load(workdir / "config.json"), saved.read(workdir / "scene.json")
        with config.unlocked():
            config.white = config.get("white", WHITE)  # which older runs have none of
        field = registry.create(config.model, about := setting(scene))
        posed = Posed.of(field, about, options_of(config))
        everywhere = meshes.replicated(mesh)  # the checkpoint may come from other devices
        restored = checkpoint.restore_variables(workdir, everywhere)
        variables = jax.device_put(posed.from_saved(restored), everywhere)
        renderer = Renderer(field.render, mesh, BACKGROUNDS[config.background], field.chunk)
        return cls.of(config, scene, posed, renderer, variables)

    @classmethod
    def of(cls, config: ConfigDict, scene: Scene, posed: Posed, renderer: Renderer, variables: Variables) -> Self:
        """A run whose variables, the field's with the cameras' corrections, are at hand."""
        cameras, rows = posed.cameras(scene, variables.params), posed.rows(variables.params)
        return cls(config, scene, posed.field, posed.of_field(variables), renderer, cameras, posed, rows)

    def with_scene(self, scene: Scene) -> Self:
        """The same run, whose scene has its pictures."""
        return dataclasses.replace(self, scene=scene)

    def render(self, camera: Cameras) -> Rendered:
        """The picture that one camera (`cameras[i]`) takes."""
        return self.renderer(self.variables, camera)


def setting(scene: Scene, steps: float = math.inf) -> Setting:
    """What a field may know of a scene, and of the length of the run that trains it."""
    return Setting(
        cameras=scene.cameras[scene.split["train"]],
        near=scene.near,
        far=scene.far,
        bounds=scene.bounds,
        unbounded=scene.unbounded,
        near_from=scene.near_from,
        points=scene.points,
        steps=steps,
    )
