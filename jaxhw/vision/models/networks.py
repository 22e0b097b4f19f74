"""A backbone, its projection head and its predictor in a chain, over the views of a batch.

Shapes: v views of b images, [b, v, h, w, c]; each module's output has d numbers a view, [b, v, d].
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxhw.vision.models import parts

PyTree = Any


class Networks:
    """Modules in a chain, each the next one's input: {"backbone": ..., "projector": ..., "predictor": ...}.

    Args:
        modules: by name, in their order. Each maps (x, train) to [b, d].
        together: whether the views share their batch statistics (one call) or have their own (a call a view).
        mesh: where the batch lies.
    """

    def __init__(self, modules: dict[str, nn.Module], together: bool, mesh: Mesh):
        self.modules, self.together = modules, together
        self._apply = {name: parts.in_training(module, mesh) for name, module in modules.items()}

    def init(self, rng: jax.Array, image_size: int) -> tuple[PyTree, PyTree]:
        """(parameters, batch statistics) by module; a module without statistics is left out of the latter."""
        x, variables = jnp.zeros((1, image_size, image_size, 3)), {}
        for (name, module), key in zip(self.modules.items(), jax.random.split(rng, len(self.modules)), strict=True):
            x, variables[name] = module.init_with_output(key, x, train=False)
        stats = {name: v["batch_stats"] for name, v in variables.items() if "batch_stats" in v}
        return {name: v["params"] for name, v in variables.items()}, stats

    def __call__(self, params: PyTree, stats: PyTree, images: jax.Array, rng: jax.Array) -> tuple[dict, PyTree]:
        """Views [b, v, h, w, c] in training mode -> (output [b, v, d] of each module, new batch statistics).

        The chain ends with the last module that ``params`` has. ``rng`` is for dropout.
        """
        b, v = images.shape[:2]
        # All views as one batch, whose statistics they share.
        if self.together:
            outputs, stats = self._chain(params, stats, images.reshape(b * v, *images.shape[2:]), rng)
            return {name: x.reshape(b, v, -1) for name, x in outputs.items()}, stats
        # A call for each view, which continues with the running statistics that the one before it left.
        views = []
        for i in range(v):
            outputs, stats = self._chain(params, stats, images[:, i], jax.random.fold_in(rng, i))
            views.append(outputs)
        return jax.tree.map(lambda *xs: jnp.stack(xs, 1), *views), stats

    def _chain(self, params: PyTree, stats: PyTree, x: jax.Array, rng: jax.Array) -> tuple[dict, PyTree]:
        """Images x [n, ...] -> (output [n, d] of each module, new batch statistics by module)."""
        outputs, new_stats = {}, {}
        # Each module's output is the next one's input. A target network has no predictor and ends before it.
        for name, apply in self._apply.items():
            if name not in params:
                break
            variables = {"params": params[name]} | ({"batch_stats": stats[name]} if name in stats else {})
            outputs[name], new = apply(variables, x, rng)
            x = outputs[name]
            new_stats |= {name: new["batch_stats"]} if name in stats else {}
        return outputs, new_stats
