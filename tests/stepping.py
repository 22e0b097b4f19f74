"""The first steps of a run, without its log, evaluations and checkpoints."""

from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import mesh as meshes
from jaxhw import start, step, task
from jaxhw.state import TrainState


def stepped(config: ConfigDict, mesh: Mesh, steps: int) -> tuple[list[float], Any, TrainState]:
    """(the losses of so many steps, the shardings of the state before them, the state after them)."""
    made = task.make(config, mesh)
    state = start.begin(made, config, mesh, jax.device_get(made.init(jax.random.key(0))))
    before, losses, one = jax.tree.map(lambda a: a.sharding, state), [], step.make_step(made, config, mesh)
    for i in range(steps):
        state, loss = one(state, meshes.put_rows(made.batch(i), mesh))
        losses.append(float(loss))
    return losses, before, state
