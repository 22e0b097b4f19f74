"""A run's real programs, lowered for devices that nobody has."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw import start, step, task
from jaxhw.cost import Operation, operations
from jaxhw.errors import UserError
from jaxhw.program import shapes
from jaxhw.state import Variables

PyTree = Any
TRAIN = "train"


@dataclass(frozen=True)
class Lowered:
    """A program before its compilation.

    Attributes:
      lowered: as JAX hands it to the compiler.
      operations: its products and convolutions, on all chips together.
      examples: images or rays (`unit`) that a call is for.
      calls: how often a run calls it; 0 where that depends on more than the config.
      stages: how many a run has; the program is that of the first.
    """

    lowered: jax.stages.Lowered
    operations: list[Operation]
    examples: int
    unit: str
    calls: int
    stages: int


def for_accelerator(config: ConfigDict) -> ConfigDict:
    """The config as a TPU takes it: what "auto" depends on is looked at here, on a CPU."""
    chosen = {"activations": config.dtype, "remat": "heads"}
    auto = {name for name in chosen if config.get("model", {}).get(name) == "auto"}
    return configs.changed(config, {f"model.{name}": chosen[name] for name in auto}) if auto else config


def lower(config: ConfigDict, mesh: Mesh, name: str) -> Lowered:
    """The training step, or another of the task's programs by its name.

    Args:
      config: whose data are there; see `Task.without_data`.

    Raises:
      UserError: the devices do not divide the batch, the task refuses the config or has no such program.
    """
    made = _made(config, mesh)
    variables = made.variable_shapes()
    if name == TRAIN:
        function, arguments = _training(made, config, mesh, variables)
        examples, calls = config.batch_size, made.steps
    else:
        function, arguments, examples = _other(made, config, mesh, variables, name)
        calls = 0
    return Lowered(
        lowered=function.lower(*arguments),
        operations=operations(function, *arguments, platform="tpu"),
        examples=examples,
        unit=made.unit,
        calls=calls,
        stages=1 + len(made.stages),
    )


def examples_per_epoch(config: ConfigDict, mesh: Mesh) -> int:
    """Images or rays of which each is seen once an epoch, of a config with a batch that a run may have."""
    return round(_made(config, mesh).steps_per_epoch * config.batch_size)


def _made(config: ConfigDict, mesh: Mesh) -> task.Task:
    """The task of a config whose batch the devices divide."""
    meshes.check_batch_size(config.batch_size, mesh, config.accumulate)
    return task.make(config, mesh)


def _training(made: task.Task, config: ConfigDict, mesh: Mesh, variables: Variables) -> tuple[Callable, PyTree]:
    """(the step, shapes of its state and batch as they lie on the mesh)."""
    state = jax.eval_shape(lambda v: start.initial_state(made, config, v), variables)
    start.check_layout(made, config, state)
    layout = meshes.layout(state, mesh, config.mesh.layout)
    batch = made.batch_shapes()
    rows = jax.tree.map(lambda _: meshes.by_row(mesh), batch)
    return step.make_step(made, config, mesh), (_placed(state, layout), _placed(batch, rows))


def _other(
    made: task.Task, config: ConfigDict, mesh: Mesh, variables: Variables, name: str
) -> tuple[Callable, PyTree, int]:
    """(a function, shapes of its arguments as they lie on the mesh, how many examples a call is for)."""
    programs = made.programs(variables)
    if name not in programs:
        has = ", ".join((TRAIN, *programs))
        raise UserError(f"--program={name}: {type(made).__name__} has no such program; it has {has}")
    program = programs[name]
    variables, *shared, rows = shapes(program.arguments)
    whole, divided = meshes.replicated(mesh), meshes.by_row(mesh)
    layouts = [meshes.layout(variables, mesh, config.mesh.layout)]
    layouts += [jax.tree.map(lambda _: whole, a) for a in shared] + [jax.tree.map(lambda _: divided, rows)]
    arguments = map(_placed, (variables, *shared, rows), layouts)
    return program.function, tuple(arguments), program.examples


def _placed(arrays: PyTree, layout: PyTree) -> PyTree:
    place = lambda a, sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)
    return jax.tree.map(place, arrays, layout)
