"""The state that a run starts from: a new one, other weights in it, a checkpoint's, the next stage's."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import checkpoint, optim
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.state import Averages, TrainState
from jaxhw.task import Task

PyTree = Any


def init_state(task: Task, config: ConfigDict, rng: jax.Array, variables: tuple | None = None) -> TrainState:
    """The state before the first step; a pure function of the key, so that it can be traced for its shapes.

    ``variables`` are (params, model_state) in the place of the task's own, where a stage has changed their shapes.
    """
    init_rng, run_rng = jax.random.split(rng)
    params, model_state = variables or task.init(init_rng)
    tx = optimiser(task, config.optim)
    variables = {"params": params, "model_state": model_state}
    names = task.metric_names
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=tx.init(params),
        rng=run_rng,
        averages=Averages.zeros(names),
        ema=jax.tree.map(jnp.copy, variables) if config.optim.ema else None,
    )


def optimiser(task: Task, options: ConfigDict) -> optax.GradientTransformation:
    return optim.make(options, task.steps, getattr(task, "groups", ()))


def pretrained(task: Task, config: ConfigDict, abstract: TrainState, workdir: Path) -> PyTree:
    """What `init_from` holds for a run that has not begun; None for others."""
    if not config.init_from or checkpoint.exists(workdir):
        return None
    if not hasattr(task, "pretrained"):
        raise UserError(f"config.init_from is set, but task {config.task} starts from no other run")
    return task.pretrained({"params": abstract.params, "model_state": abstract.model_state})


def begin(
    task: Task, config: ConfigDict, mesh: Mesh, checkpoints: checkpoint.Checkpoints, abstract: TrainState
) -> TrainState:
    if checkpoints.latest() is None:
        return meshes.on_mesh(lambda: init_state(task, config, jax.random.key(config.seed)), mesh)
    if stages(task):  # nothing but the checkpoint knows the shapes of the stage that the run is in
        grown = checkpoints.shapes("params", "model_state")
        abstract = jax.eval_shape(lambda v: init_state(task, config, jax.random.key(config.seed), v), grown)
    return checkpoints.restore(checkpoint.abstract_like(abstract, meshes.replicated(mesh)))


def replace(state: TrainState, weights: PyTree, mesh: Mesh) -> TrainState:
    """The state with host arrays in place of some of its parameters and model state, from which its average starts."""

    def merge(old: PyTree, new: PyTree) -> PyTree:
        if isinstance(new, Mapping):
            return {**old, **{name: merge(old[name], new[name]) for name in new}}
        assert old.shape == new.shape, (old.shape, new.shape)
        return meshes.put_replicated(np.asarray(new, old.dtype), mesh)

    variables = merge({"params": state.params, "model_state": state.model_state}, weights)
    ema = None if state.ema is None else jax.tree.map(jnp.copy, variables)
    return state.replace(**variables, ema=ema)


def grow(task: Task, options: ConfigDict, state: TrainState, stage: int, mesh: Mesh) -> TrainState:
    """The state at the start of a stage. Where parameters change their shapes, the optimiser's moments start anew."""
    variables = task.grow(state.params, state.model_state, stage)
    params, model_state = jax.device_put(variables, meshes.replicated(mesh))
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, state.params):
        restart = functools.partial(optim.restart, optimiser(task, options))
        opt_state = jax.jit(restart, out_shardings=meshes.replicated(mesh))(params, state.step)
        state = state.replace(opt_state=opt_state)
    ema = jax.tree.map(jnp.copy, {"params": params, "model_state": model_state}) if options.ema else None
    return state.replace(params=params, model_state=model_state, ema=ema)


def stages(task: Task) -> tuple[int, ...]:
    """The steps before which the task's shapes may change; see ``Task.grow``."""
    return tuple(getattr(task, "stages", ()))
