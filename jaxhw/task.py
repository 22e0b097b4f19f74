"""What one training problem supplies. The loop in :mod:`jaxhw.train` knows nothing else of it."""

import importlib
import math
from pathlib import Path
from typing import Any, Protocol

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw.errors import UserError

PyTree = Any

TASKS = {
    "classify": "jaxhw.vision.tasks.classify:Classify",
    "linear": "jaxhw.vision.tasks.linear:Linear",
    "pretrain": "jaxhw.vision.tasks.pretrain:Pretrain",
    "nerf": "jaxhw.nerf.task:Nerf",
}


class Task(Protocol):
    """A training problem: its variables, batches, loss and evaluation; no loops, no files but its artefacts.

    Attributes:
      unit: what a batch holds, for the progress bar ("images").
      metric_names: what ``loss`` reports beside the loss itself; "loss" is among them.
      steps: the length of the run.
      steps_per_epoch: steps in which every example is seen once (a float), to label curves.

    A task whose shapes change while it trains has two members more. ``stages``: ascending steps, each of which ends a
    stage. ``grow(params, model_state, stage) -> (params, model_state)``: what the next stage starts from, after the
    step ``stages[stage - 1]``; a pure function that runs on the host between two steps, so that shapes may depend on
    values. A checkpoint's step says which stage it is in (one written at a boundary is of the stage that ends there),
    and its arrays which shapes that has.
    """

    unit: str
    metric_names: list[str]
    steps: int
    steps_per_epoch: float

    def __init__(self, config: ConfigDict, mesh: Mesh):
        """Checks the config and loads the data. Raises a UserError before anything is written."""

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        """(params, model_state) at the start."""

    def batch(self, step: int) -> PyTree:
        """This process's rows of batch ``step`` as host arrays: a pure function of (seed, step)."""

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, rng: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """([] loss, (new model_state, metrics)); ``metrics`` are [] floats and hold "loss"."""

    def evaluate(self, variables: PyTree, step: int) -> dict[str, float]:
        """Numbers for the curves after ``step`` steps; ``variables`` is ``TrainState.variables``."""

    def describe(self, workdir: Path) -> None:
        """Writes what makes the workdir self-contained (labels.json, scene.json) before the first step."""

    def finish(self, variables: PyTree, workdir: Path) -> dict[str, Any]:
        """Writes the artefacts of a finished run; returns the final numbers for results.json."""

    # What follows is optional: the loop asks whether a task has it.

    groups: tuple[tuple[str, float], ...]  # (path prefix, factor) pairs beneath those of `optim.groups`

    def pretrained(self, shapes: PyTree) -> PyTree:
        """What `config.init_from` holds; called before a run's first step, never when it resumes.

        Args:
          shapes: {"params", "model_state"} of ``init`` as ShapeDtypeStructs.

        Returns:
          The part of that tree to replace, as nested dicts of host arrays.

        Raises:
          UserError: the weights are missing or do not fit; nothing has been written yet.
        """

    def prepare(self, variables: PyTree, workdir: Path) -> None:
        """Computes what stays the same all through a run, or reads it back from the workdir.

        Called on every process before the loop, with the variables that the run starts or resumes with.
        """

    def finite(self, params: PyTree) -> jax.Array:
        """[] bool: whether the weights may be evaluated and saved; without it, all must be finite. Traced."""

    def after_update(self, params: PyTree, model_state: PyTree, step: jax.Array) -> PyTree:
        """The model_state that follows the step's updated parameters (a moving average of them, say).

        Traced into the step; ``step`` [] counts from 0.
        """


def make(config: ConfigDict, mesh: Mesh) -> Task:
    """The task that ``config.task`` names.

    Raises:
      UserError: there is none of that name, a number makes no sense for any task, or this one refuses the config.
    """
    if config.seed < 0:
        raise UserError(f"config.seed={config.seed}: use a number from 0 on")
    if not 0 <= config.epochs < math.inf:
        raise UserError(f"config.epochs={config.epochs}: use a finite number from 0 on")
    if config.task not in TASKS:
        raise UserError(f"config.task={config.task!r} is unknown; choose one of {', '.join(sorted(TASKS))}")
    module, name = TASKS[config.task].split(":")
    return getattr(importlib.import_module(module), name)(config, mesh)
