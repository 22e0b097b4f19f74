"""The contract of a radiance field: what a scene is learnt into.

A field is a frozen dataclass that :meth:`Field.create` makes from its options and the setting. It holds no arrays that
are learnt: those are its variables, `params` (what the optimiser updates) and `state` (what else a step changes), each
a pytree of a type of the field's choosing. :mod:`jaxhw.nerf.task` draws the rays, holds cameras and pictures, renders
held-out pictures, and knows nothing else of a field.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.nerf.cameras.cameras import Cameras, Rays
from jaxhw.nerf.cameras.normalise import centre_of
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.state import Variables
from jaxhw.task import Context

PyTree = Any


class Target(flax.struct.PyTreeNode):
    """What the rays of a batch should show.

    Attributes:
      colour: [r, 3] in [0, 1] of the pixels, blended with the background where the picture is transparent.
      background: [r, 3] behind the scene.
    """

    colour: jax.Array
    background: jax.Array


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a field knows of the scene and the run before either begins.

    Attributes:
      cameras: of the training pictures: `Rays.camera` is a row of them. A real capture's are in [-1, 1]^3
        around what they look at, z up.
      near, far: distances along a unit ray between which there is something to see.
      bounds: [2, 3] corners of a box around all content, where it is known (of the demo), else None.
      unbounded: whether there is a background beyond the objects, so that space has to be contracted.
      near_from: what `near` is from: the scene's "format" (then `far` is as well), its sparse "points", or a "guess".
      points: [k, 3] float32, where structure from motion found something; none of many scenes.
      steps: the length of the run; infinite where the field is only rendered.
      distance: median distance of the cameras from what they look at, the measure of a field's own distances.
    """

    cameras: Cameras
    near: float
    far: float
    bounds: np.ndarray | None = None
    unbounded: bool = False
    near_from: str = "format"
    points: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 3), np.float32))
    steps: float = math.inf

    @property
    def distance(self) -> float:
        poses = np.asarray(self.cameras.pose, np.float64)
        subject = np.zeros(3) if self.unbounded else centre_of(poses)[0]
        return float(np.median(np.linalg.norm(poses[:, :, 3] - subject, axis=1)))


class Field(ABC):
    """Base of the fields; those methods that are not abstract do nothing.

    Attributes:
      Options: a frozen dataclass of :func:`jaxhw.options.option` fields: what `config.model` may set.
      metric_names: what `loss` reports; "loss" and "psnr" are among them.
      chunk: how many rays at a time a device should render.
      stages: numbers of steps taken, ascending, after which `grow` is called; one that the run never takes, or takes
        last, is left out.
      notes: lines on what was chosen for the scene, which a user reads when a run starts.
      indivisible: see :class:`jaxhw.task.Task`.
      moves_samples: whether `loss` has a gradient with respect to the rays, by which cameras can be refined.
      per_picture: names of entries of `params` whose leading axis counts the training pictures; `Rays.camera` is the
        row of a ray, and -1 stands for the mean of them.
    """

    Options: ClassVar[type]
    metric_names: ClassVar[tuple[str, ...]] = ("loss", "psnr")
    chunk: ClassVar[int] = 8192
    moves_samples: ClassVar[bool] = False
    per_picture: ClassVar[tuple[str, ...]] = ()
    stages: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    indivisible: str = ""

    @classmethod
    @abstractmethod
    def create(cls, options: Any, setting: Setting) -> Self:
        """The field for a scene; computes nothing yet.

        Raises:
          UserError: the options do not go together, or not with the setting.
        """

    @abstractmethod
    def start(self, rng: jax.Array) -> Variables:
        """The variables before the first step. Runs once, on the host: sizes may depend on the setting's numbers."""

    def from_saved(self, saved: Variables) -> Variables:
        """The variables in the field's own types, out of the nested dicts that a checkpoint holds.

        The one place that knows how variables were saved, by this version and those before it.
        """
        return saved

    @abstractmethod
    def loss(
        self, params: PyTree, state: PyTree, rays: Rays, target: Target, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """The mean loss of a batch of rays. Traced; the gradient with respect to `params` is taken.

        Args:
          rays: r rays, divided over the devices of `context.mesh`.

        Returns:
          ([] loss, (new state, `metric_names` -> [] floats)).
        """

    @property
    def rendered_near(self) -> float:
        """The distance along a ray at which `render` begins to look."""
        return 0.0

    @abstractmethod
    def render(self, variables: Variables, rays: Rays, background: jax.Array) -> Rendered:
        """What rays [r] see before a background [3]. Traced, on one device; the same rays give the same result."""

    @abstractmethod
    def radiance(self, variables: Variables, points: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the field is at points of the scene: (densities [k], colours [k, 3] in [0, 1]). Traced, on one device.

        Densities are per unit length of the scene's frame, 0 where nothing is learnt; a picture's rays composite them.

        Args:
          points: [k, 3].
          directions: [k, 3] of unit length, of the rays that see the colours.
        """

    def density(self, variables: Variables, points: jax.Array) -> jax.Array:
        """Densities [k] alone; compiled, colours cost nothing."""
        return self.radiance(variables, points, jnp.zeros_like(points))[0]

    def grow(self, variables: Variables, stage: int, rng: jax.Array) -> Variables:
        """What stage number `stage` starts from, after step `stages[stage - 1]`. Runs on the host.

        Args:
          rng: the run's key, the same in every stage.
        """
        return variables

    def warning(self, state: PyTree) -> str:
        """What a user should be told of a state while it trains, in a line; an empty string if nothing."""
        return ""
