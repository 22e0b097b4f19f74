"""A field together with the corrections of the cameras it is learnt from: who knows what of a run's variables.

Where cameras are refined, `params` are {"field": the field's, "cameras": [n, d]}, n training pictures with a row of
`jaxhw.nerf.cameras.correction` each; else they are the field's alone. The field never sees the difference.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxhw.errors import UserError
from jaxhw.nerf.cameras import alignment, preconditioning
from jaxhw.nerf.cameras import correction as corrections
from jaxhw.nerf.cameras.cameras import Cameras, Rays
from jaxhw.nerf.cameras.correction import OFF, Correction
from jaxhw.nerf.fields.field import Field, Setting, Target
from jaxhw.nerf.scenes.scene import Scene
from jaxhw.optim import Groups
from jaxhw.state import Variables
from jaxhw.task import Context

PyTree = Any
NEAREST = 0.25  # of the cameras' distance from their subject: nothing nearer says how pixels move


@dataclasses.dataclass(frozen=True)
class Posed:
    """A field and what becomes of its training cameras.

    Attributes:
      given: the n training cameras before any correction.
      options: `config.cameras`.
      correction: None where they stay as given.
    """

    field: Field
    given: Cameras
    options: corrections.Options
    correction: Correction | None = None

    @classmethod
    def of(cls, field: Field, setting: Setting, options: corrections.Options) -> Self:
        """As `config.cameras` asks for.

        Raises:
          UserError: cameras should be refined, and the field has no gradient for them.
        """
        if options.refine == OFF:
            return cls(field, setting.cameras, options)
        if not field.moves_samples:
            raise UserError(
                f"config.cameras.refine={options.refine}: {type(field).__name__} gives its samples no gradient, so "
                "its cameras cannot be refined; set it to off"
            )
        made = Correction(options, setting.cameras.model)
        if options.preconditioned:
            near = max(setting.near, NEAREST * setting.distance)
            made = preconditioning.preconditioned(made, setting.cameras, near, max(setting.far, 2 * near))
        return cls(field, setting.cameras, options, made)

    @property
    def below(self) -> str:
        """The path of the field's parameters."""
        return "field/" if self.correction else ""

    @property
    def groups(self) -> Groups:
        """The optimiser's group of the corrections."""
        return (("cameras", self.correction.optimiser),) if self.correction else ()

    def start(self, rng: jax.Array) -> Variables:
        """The variables before the first step."""
        return self.joined(self.field.start(rng), self.correction and self.correction.start(len(self.given)))

    def joined(self, variables: Variables, rows: np.ndarray | jax.Array | None) -> Variables:
        """The run's variables, of the field's and the rows of the corrections."""
        if self.correction is None:
            return variables
        return variables.replace(params={"field": variables.params, "cameras": rows})

    def of_field(self, variables: Variables) -> Variables:
        """The field's variables, of the run's."""
        return variables.replace(params=self.params_of_field(variables.params))

    def params_of_field(self, params: PyTree) -> PyTree:
        """The field's params, of the run's."""
        return params["field"] if self.correction else params

    def rows(self, params: PyTree) -> jax.Array | None:
        """[n, d] the corrections, of the run's params; None where there are none."""
        return params["cameras"] if self.correction else None

    def from_saved(self, saved: Variables) -> Variables:
        """The variables in their types, out of a checkpoint's nested dicts.

        Raises:
          UserError: the checkpoint corrects other cameras than the scene's.
        """
        if self.correction is None:
            return self.field.from_saved(saved)
        rows = saved.params["cameras"]
        wanted = (len(self.given), self.correction.size)
        if rows.shape != wanted:
            raise UserError(
                f"the checkpoint has {rows.shape[0]} corrected cameras of {rows.shape[1]} numbers each, and the scene "
                f"{wanted[0]} training pictures of {wanted[1]}: it belongs to other pictures or other config.cameras"
            )
        return self.joined(self.field.from_saved(self.of_field(saved)), rows)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What `loss` reports."""
        return (*self.field.metric_names, *(corrections.METRICS if self.correction else ()))

    def loss(
        self, params: PyTree, state: PyTree, rays: Rays, target: Target, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """The field's loss (see `Field.loss`) with the penalty on corrections and their sizes among the metrics."""
        loss, (state, metrics) = self.field.loss(self.params_of_field(params), state, rays, target, context)
        if self.correction is None:
            return loss, (state, metrics)
        loss += self.correction.penalty(params["cameras"])
        return loss, (state, metrics | self.correction.metrics(params["cameras"]) | {"loss": loss})

    def training(self, params: PyTree) -> Cameras:
        """The n training cameras as params have them. May be traced."""
        cameras = jax.tree.map(jnp.asarray, self.given)
        return self.correction.apply(cameras, params["cameras"]) if self.correction else cameras

    def cameras(self, scene: Scene, params: PyTree) -> Cameras:
        """All of a scene's cameras, on the host: the training ones refined, the others moved as these were.

        The others are moved by `to_refined`, since nothing was learnt of each.
        """
        if self.correction is None and scene.true_pose is None:
            return scene.cameras
        train, refined = scene.split["train"], jax.device_get(self.training(params))
        others = alignment.moved(scene.cameras, self.to_refined(scene, params))
        put = lambda all_, some: _with_rows(all_, train, some)
        arrays = {name: put(getattr(others, name), getattr(refined, name)) for name in ("pose", "focal", "distortion")}
        return others.replace(model=refined.model, **arrays)

    def to_refined(self, scene: Scene, params: PyTree) -> np.ndarray:
        """[4, 4] similarity from the given (or, where they are known, true) training cameras to the refined ones."""
        train, refined = scene.split["train"], np.asarray(self.training(params).pose)
        source = scene.cameras.pose if scene.true_pose is None else scene.true_pose
        return alignment.similarity(source[train], refined)

    def pose_errors(self, scene: Scene, params: PyTree) -> dict[str, float]:
        """Errors of the training cameras now and before the run, where the truth is known; else nothing."""
        if scene.true_pose is None:
            return {}
        truth, found = scene.true_pose[scene.split["train"]], {}
        for suffix, cameras in (("", self.training(params)), ("_start", self.given)):
            degrees, share = alignment.errors(np.asarray(cameras.pose), truth)
            found |= {f"rotation_error_degrees{suffix}": degrees, f"translation_error{suffix}": share}
        return found


def options_of(config: ConfigDict | Mapping[str, Any]) -> corrections.Options:
    """`config.cameras`, which older workdirs lack."""
    return corrections.read(config.get("cameras", {}))


def perturbed(scene: Scene, options: corrections.Options, seed: int) -> Scene:
    """The scene with noise on its training cameras, where `config.cameras.perturb` asks for it."""
    degrees, share = options.perturb
    if not degrees and not share:
        return scene
    train, poses = scene.split["train"], np.array(scene.cameras.pose)
    poses[train] = alignment.perturbed(poses[train], degrees, share, seed)
    return dataclasses.replace(scene, cameras=scene.cameras.replace(pose=poses), true_pose=scene.cameras.pose)


def _with_rows(array: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array[rows] = values
    return array
