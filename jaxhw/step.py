"""One training step: gradients, the optimiser, what follows from the new parameters, metrics."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import accumulation, start
from jaxhw import mesh as meshes
from jaxhw.state import TrainState, Variables, update_ema
from jaxhw.task import Context, Task

PyTree = Any


def make_step(
    task: Task, config: ConfigDict, mesh: Mesh
) -> Callable[[TrainState, PyTree], tuple[TrainState, jax.Array]]:
    """The training step, jitted: (state, batch) -> (state, [] loss). The state's buffers are donated.

    The batch is divided over the mesh and the program is written for one big device, so that means over the
    batch, batch statistics among them, are global.
    """
    options = config.optim
    tx = start.optimiser(task, options)
    place = lambda arrays: meshes.laid_out(arrays, mesh, config.mesh.layout)
    # By the names of the parameters, whose rules are those of their gradients.
    gradients = accumulation.value_and_grad(task, config.accumulate, lambda g: place({"params": g})["params"])

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, jax.Array]:
        rng = jax.random.fold_in(state.rng, state.step)
        context = Context(step=state.step, progress=state.step / task.steps, rng=rng, mesh=mesh)
        # Gradients of the loss, and what the forward pass changed.
        (loss, (model_state, numbers)), grads = gradients(state.params, state.model_state, batch, context)
        # The optimiser's step, and what follows from the new parameters.
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = Variables(params, task.after_update(Variables(params, model_state), context))
        ema = update_ema(state.ema, new, options.ema, state.step) if options.ema else None
        # Metrics add up here, on the device: no step waits for the host.
        averages = state.averages.add(numbers, state.step)
        done = TrainState(state.step + 1, new.params, new.model_state, opt_state, state.rng, averages, ema)
        # Else the compiler might lay the new state elsewhere than the old one, and compile the step again.
        return place(done), loss

    return jax.jit(step, donate_argnums=0)
