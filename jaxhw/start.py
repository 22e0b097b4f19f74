"""The state that a run starts from: a new one, other weights in it, a checkpoint's; and the next stage's."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import checkpoint, optim, tree
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.program import shapes
from jaxhw.state import Averages, TrainState, Variables
from jaxhw.task import Task

PyTree = Any


class Refused(UserError):
    """The task cannot start from this config, whose values do not go together. Nothing has been written."""


def variables(task: Task, config: ConfigDict, workdir: Path) -> Variables | None:
    """The variables of a run that has not begun, on the host, with what ``config.init_from`` holds; else None.

    Raises:
      Refused: the task finds that its config asks for what cannot be.
      UserError: the weights of ``init_from`` do not fit.
    """
    if checkpoint.exists(workdir):
        return None
    try:
        fresh = jax.device_get(task.init(jax.random.split(jax.random.key(config.seed))[0]))
        check_layout(task, config, jax.eval_shape(lambda: initial_state(task, config, fresh)))
    except UserError as error:
        raise Refused(str(error)) from error
    _check_types(task, fresh)
    return _merged(fresh, task.init_from(shapes(fresh))) if config.init_from else fresh


def check_layout(task: Task, config: ConfigDict, state: PyTree) -> None:
    """Raises a UserError where a rule of ``config.mesh.layout`` is for nothing in the state, or its shapes."""
    if not task.stages:  # a later one may hold it
        meshes.check_rules(state, config.mesh.layout)


def _check_types(task: Task, fresh: Variables) -> None:
    """Refuses variables whose types a checkpoint would lose: it holds nested dicts, and `from_saved` must type them."""
    saved = Variables(*(_as_saved(part) for part in (fresh.params, fresh.model_state)))
    if jax.tree.structure(task.from_saved(saved)) != jax.tree.structure(fresh):
        raise TypeError(
            f"{type(task).__name__}.from_saved must give back the types of the variables that a checkpoint holds as "
            "nested dicts; see jaxhw.task.Task.from_saved"
        )


def _as_saved(part: PyTree) -> PyTree:
    """Variables as a checkpoint holds them: a dict of the fields in the place of every node."""
    if isinstance(part, Mapping):
        return {name: _as_saved(value) for name, value in part.items()}
    if dataclasses.is_dataclass(part):
        return {field.name: _as_saved(getattr(part, field.name)) for field in dataclasses.fields(part)}
    return [_as_saved(value) for value in part] if isinstance(part, (list, tuple)) else part


def initial_state(task: Task, config: ConfigDict, variables: Variables) -> TrainState:
    """The state before the first step; a pure function of the variables, so that it can be traced for its shapes."""
    rng = jax.random.split(jax.random.key(config.seed))[1]  # the other half is that of the variables
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables.params,
        model_state=variables.model_state,
        opt_state=optimiser(task, config.optim).init(variables.params),
        rng=rng,
        averages=Averages.zeros(task.metric_names),
        ema=jax.tree.map(jnp.copy, variables) if config.optim.ema else None,
    )


def optimiser(task: Task, options: ConfigDict) -> optax.GradientTransformation:
    return optim.make(options, task.steps, task.groups, task.below)


def begin(task: Task, config: ConfigDict, mesh: Mesh, variables: Variables) -> TrainState:
    """The state of a new run, on the devices.

    The variables come as arguments: a grid of numbers within the program would have to be compiled.
    """
    make = lambda variables: initial_state(task, config, variables)
    layout = meshes.layout(jax.eval_shape(make, variables), mesh, config.mesh.layout)
    return jax.jit(make, out_shardings=layout)(variables)


def resume(task: Task, config: ConfigDict, mesh: Mesh, checkpoints: checkpoint.Checkpoints) -> TrainState:
    """The state of the newest sound checkpoint, on whatever devices there are now.

    Nothing but the checkpoint knows the shapes of the stage that the run is in, and nothing but the task knows the
    types of its variables: they are read as nested dicts first.

    Raises:
      UserError: all checkpoints are damaged, or the newest is not one of this task and optimiser.
    """

    def layout(saved: PyTree) -> PyTree:
        check_layout(task, config, saved)
        return meshes.layout(saved, mesh, config.mesh.layout)

    saved = checkpoints.restore(layout, set_aside=True)
    try:
        current = task.from_saved(Variables(saved["params"], saved["model_state"]))
        average = task.from_saved(Variables(**saved["ema"])) if saved["ema"] else None
        like = jax.eval_shape(lambda v: initial_state(task, config, v), current)
        rest = tree.filled(like.replace(params=None, model_state=None, ema=None), tree.by_name(saved))
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{checkpoints.path()} is no checkpoint of this task and optimiser, or an older version's (it lacks "
            f"{error}): jaxhw eval and render may still read it; train anew in another --workdir"
        ) from error
    return rest.replace(params=current.params, model_state=current.model_state, ema=average)


def grow(task: Task, config: ConfigDict, state: TrainState, stage: int, mesh: Mesh) -> TrainState:
    """The state at the start of a stage: what :meth:`Task.grow` makes of the variables, and moments that fit them."""
    before = Variables(state.params, state.model_state)
    if meshes.divides(mesh, config.mesh.layout):  # the task looks at whole arrays
        before = jax.jit(lambda v: v, out_shardings=meshes.replicated(mesh))(before)
    grown = task.grow(before, stage)
    grown = jax.device_put(grown, meshes.layout(grown, mesh, config.mesh.layout))
    opt_state, old = state.opt_state, shapes(state.params)
    if tree.by_name(old) != tree.by_name(shapes(grown.params)):
        restart = lambda params, opt_state: optim.restart(optimiser(task, config.optim), params, old, opt_state)
        layout = meshes.layout(jax.eval_shape(restart, grown.params, opt_state), mesh, config.mesh.layout)
        opt_state = jax.jit(restart, out_shardings=layout)(grown.params, opt_state)
    average = jax.tree.map(jnp.copy, grown) if config.optim.ema else None
    return state.replace(params=grown.params, model_state=grown.model_state, opt_state=opt_state, ema=average)


def _merged(old: PyTree, new: PyTree) -> PyTree:
    """Host arrays with those of nested dicts in the place of some."""
    leaves = tree.by_name(new)

    def merge(path: tuple, array: np.ndarray) -> np.ndarray:
        found = leaves.pop(tree.path_name(path), array)
        assert found.shape == array.shape, (tree.path_name(path), found.shape, array.shape)
        return np.asarray(found, array.dtype)

    merged = jax.tree_util.tree_map_with_path(merge, old)
    assert not leaves, f"no variables of these names: {', '.join(leaves)}"
    return merged
