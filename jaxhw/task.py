"""What one training problem supplies. The loop in :mod:`jaxhw.train` knows nothing else of it."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw.contents import Content
from jaxhw.errors import UserError
from jaxhw.observer import Observer
from jaxhw.optim import Groups
from jaxhw.options import at_least, require
from jaxhw.program import Program, shapes
from jaxhw.state import Variables

PyTree = Any

TASKS = {
    "classify": "jaxhw.vision.tasks.classify:Classify",
    "linear": "jaxhw.vision.tasks.linear:Linear",
    "pretrain": "jaxhw.vision.tasks.pretrain:Pretrain",
    "nerf": "jaxhw.nerf.task:Nerf",
}


class Context(flax.struct.PyTreeNode):
    """What a loss may know of the step that it is computed in.

    Attributes:
      step: [] int32, counted from 0.
      progress: [] float32 in [0, 1), the share of the run before this step.
      rng: the step's own key.
      mesh: the devices that the batch is divided over.
    """

    step: jax.Array
    progress: jax.Array
    rng: jax.Array
    mesh: Mesh = flax.struct.field(pytree_node=False)


class Sizes(NamedTuple):
    """What a run's data are in numbers; 0 is what the data themselves say.

    Attributes:
      images: to train on.
      classes: of the images, where they have labels.
      size: pixels along an image's side.
    """

    images: int = 0
    classes: int = 0
    size: int = 0


class Task(ABC):
    """A training problem: its variables, batches, loss and evaluation; no loops, no files but its artefacts.

    A task defines ``init``, ``batch`` and ``loss``, and of the rest what it needs: the methods here do nothing.

    Attributes:
      unit: what a batch holds, for the progress bar ("images").
      metric_names: what ``loss`` reports beside the loss itself; "loss" is among them.
      steps: the length of the run.
      steps_per_epoch: steps in which every example is seen once (a float), to label curves.
      stages: ascending steps, each of which ends a stage; see ``grow``.
      groups: of the optimiser, beneath those of ``config.optim.groups``; see :func:`jaxhw.optim.make`.
      indivisible: why a batch's loss is not the mean of its parts', for `config.accumulate`; empty where it is.
      below: the path, such as "field/", below which the prefixes of ``config.optim.groups`` begin.
    """

    unit: str
    metric_names: Sequence[str]
    steps: int
    steps_per_epoch: float
    stages: tuple[int, ...] = ()
    groups: Groups = ()
    below: str = ""
    indivisible: str = ""

    @abstractmethod
    def __init__(self, config: ConfigDict, mesh: Mesh):
        """Checks the config and loads the data. Raises a UserError before anything is written.

        Nothing is put on the mesh's devices here: they may be a description of what nobody has, to compile for.
        """

    @abstractmethod
    def init(self, rng: jax.Array) -> Variables:
        """What the first step starts from: arrays of the host or of its first device, the same on every process.

        Called once, outside of any compiled program, before anything is written: it may raise a UserError.
        """

    @abstractmethod
    def batch(self, step: int) -> PyTree:
        """This process's rows of batch ``step`` as host arrays: a pure function of (seed, step)."""

    @abstractmethod
    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """([] loss, (new model_state, metrics)); ``metrics`` are [] floats and hold "loss". Traced."""

    def augmented(self, batch: PyTree, context: Context) -> PyTree:
        """A whole batch with what is drawn for its examples or mixes them, before `part_loss` sees some of its rows.

        Called only where ``config.accumulate`` cuts the batch. Traced.
        """
        return batch

    def part_loss(
        self, params: PyTree, model_state: PyTree, part: PyTree, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """What `loss` gives, of some rows of what `augmented` gives. Traced."""
        return self.loss(params, model_state, part, context)

    @staticmethod
    def without_data(config: ConfigDict, sizes: Sizes) -> ConfigDict:
        """The config with a stand-in for its data where these are not there: as many, as large, and all the same.

        Raises:
          UserError: nothing says how many or how large they are.
        """
        raise UserError(f"config.task={config.task!r} cannot do without its data")

    def variable_shapes(self) -> Variables:
        """Shapes of what ``init`` gives, by tracing it; a task whose sizes hang on numbers computes it."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def batch_shapes(self) -> PyTree:
        """Shapes of what ``batch`` gives at last, where there is one process; nothing needs to be prepared."""
        return shapes(self.batch(self.steps - 1))

    def programs(self, variables: Variables) -> dict[str, Program]:
        """What is computed beside the steps, by name ("eval", "render"), for variables of these shapes."""
        return {}

    def after_update(self, variables: Variables, context: Context) -> PyTree:
        """The model_state that follows the step's updated parameters (a moving average of them, say). Traced."""
        return variables.model_state

    def finite(self, params: PyTree) -> jax.Array:
        """[] bool: whether the weights may be evaluated and saved. Traced.

        Here their norm must be finite; where that overflows, no loss would be finite either.
        """
        return jnp.isfinite(optax.tree.norm(params))

    def grow(self, variables: Variables, stage: int) -> Variables:
        """What stage number ``stage`` starts from, after step ``stages[stage - 1]``. Arrays may change their shapes.

        A pure function that runs on the host between two steps, so that shapes may depend on values. A checkpoint's
        step says which stage it is in (one written at a boundary is of the stage that ends there), and its arrays
        which shapes that has.
        """
        return variables

    def init_from(self, shapes: Variables) -> PyTree:
        """What ``config.init_from`` holds; called before a run's first step, never when it resumes.

        Args:
          shapes: of the variables of ``init``, as ShapeDtypeStructs.

        Returns:
          The part of the variables to replace, as nested dicts of host arrays.

        Raises:
          UserError: the weights are missing or do not fit, or this task starts from no other run.
        """
        raise UserError(f"config.init_from is set, but {type(self).__name__} starts from no other run")

    def from_saved(self, saved: Variables) -> Variables:
        """The variables in their own types, out of the nested dicts that a checkpoint holds."""
        return saved

    @staticmethod
    def backbone(variables: Variables) -> Mapping[str, PyTree]:
        """The image model within the variables, {"params", "batch_stats"}: what other runs may start from.

        Raises:
          UserError: there is none.
        """
        raise UserError("its task holds no image model")

    def prepare(self, variables: Variables, workdir: Path) -> None:
        """Computes what stays the same all through a run, or reads it back from the workdir.

        Called on every process before the loop, with the variables that the run starts or resumes with.
        """

    def contents(self) -> dict[str, Content]:
        """What the folders of data hold, by the keys of the config that name them; of other data nothing.

        Such a folder may be moved: a run goes on with one that holds the same, wherever it lies.
        """
        return {}

    def describe(self, workdir: Path) -> None:
        """Writes what makes the workdir self-contained (labels.json, scene.json) before the first step."""

    def observers(self, workdir: Path) -> Sequence[Observer]:
        """Who looks on beside the terminal, asked for once by the first process: a viewer, say."""
        return ()

    def evaluate(self, variables: Variables, step: int) -> dict[str, float]:
        """Numbers for the curves after ``step`` steps."""
        return {}

    def finish(self, variables: Variables, workdir: Path) -> dict[str, Any]:
        """Writes the artefacts of a finished run; returns the final numbers for results.json."""
        return {}


def make(config: ConfigDict, mesh: Mesh) -> Task:
    """The task that ``config.task`` names.

    Raises:
      UserError: there is none of that name, a number makes no sense for any task, or this one refuses the config.
    """
    require("config.seed", config.seed, at_least(0), kind=int)
    require("config.epochs", config.epochs, at_least(0))
    made = find(config.task)(config, mesh)
    if config.accumulate > 1 and made.indivisible:
        raise UserError(f"config.accumulate={config.accumulate} must be 1: {made.indivisible}")
    return made


def find(name: str) -> type[Task]:
    """The class of the tasks of a name.

    Raises:
      UserError: there is none.
    """
    if name not in TASKS:
        raise UserError(f"config.task={name!r} must be one of {', '.join(sorted(TASKS))}")
    module, cls = TASKS[name].split(":")
    return getattr(importlib.import_module(module), cls)
