"""A task small enough to train in milliseconds: linear regression with noise drawn from the step's key."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.checkpoint import Checkpoints
from jaxhw.state import Variables
from jaxhw.task import Task


def final_state(workdir, devices=1):
    """The newest checkpoint of a workdir, as nested dicts, whole on each device."""
    mesh = meshes.make_mesh(devices)
    return Checkpoints(workdir).restore(lambda shapes: meshes.layout(shapes, mesh))


def toy_config(**changes):
    config = configs.base("toy")
    config.optim.lr = 0.05
    with config.unlocked():
        config.update({"validation": 0.1, "test": True})
    config.update({"steps": 30, "batch_size": 8, "log_every": 5, "eval_every": 4, "checkpoint_every": 6})
    config.update(changes)
    return config.lock()


class Toy(Task):
    unit = "rows"
    metric_names = ("loss", "size")
    nan_from = None  # the step (counted from 0) whose batch holds a NaN

    def __init__(self, config, mesh):
        self.config, self.steps, self.steps_per_epoch = config, config.steps, 10.0

    def init(self, rng):
        return Variables({"w": jax.random.normal(rng, (4,))}, {"seen": jnp.zeros(())})

    def batch(self, step):
        x = np.random.default_rng((self.config.seed, step)).normal(size=(self.config.batch_size, 4)).astype("f")
        if step == self.nan_from:
            x[0] = np.nan
        return {"x": x[meshes.my_rows(self.config.batch_size)]}

    def loss(self, params, model_state, batch, context):
        noise = jax.random.normal(context.rng, batch["x"].shape)
        error = (batch["x"] + 0.1 * noise) @ (params["w"] - jnp.arange(4.0))
        loss = (error**2).mean()
        return loss, ({"seen": model_state["seen"] + 1}, {"loss": loss, "size": jnp.abs(params["w"]).sum()})

    def evaluate(self, variables, step):
        error = float(jnp.abs(variables.params["w"] - jnp.arange(4.0)).max())
        return {"val_error": error, "val_score": -error}

    def describe(self, workdir):
        (workdir / "scene.json").write_text(json.dumps({"rows": 4}))

    def finish(self, variables, workdir):
        tested = {"test_error": self.evaluate(variables, self.steps)["val_error"]} if self.config.test else {}
        return self.evaluate(variables, self.steps) | tested
