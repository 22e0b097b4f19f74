"""Workdirs of image runs without their training: config.json and one checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw import claims
from jaxhw.checkpoint import Checkpoints


def leave(workdir, config, variables, ema=None):
    """What a run of `config` leaves at step 3; returns the workdir."""
    claims.claim(workdir, config)
    state = {"step": np.int32(3), "params": variables.params, "model_state": variables.model_state, "ema": ema}
    checkpoints = Checkpoints(workdir)
    checkpoints.save(3, jax.tree.map(jnp.asarray, state))
    checkpoints.wait()
    checkpoints.close()
    return workdir


def random_like(shapes, seed=0):
    """Values for a tree of shapes; positive, as variances must be."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: rng.uniform(0.1, 0.5, a.shape).astype(np.float32), shapes)
