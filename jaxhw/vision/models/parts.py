"""Runs a model whose batch statistics are those of parts of the batch where these parts lie."""

from collections.abc import Callable

import flax.linen as nn
import jax
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from jaxhw.errors import UserError

AXIS = "data"


def check(config: ConfigDict) -> None:
    """Raises a UserError unless the model's parts divide the batch."""
    groups = config.model.get("norm_groups", 1)
    if config.batch_size % groups:
        raise UserError(f"model.norm_groups={groups} must divide batch_size={config.batch_size}")


def in_training(model: nn.Module, mesh: Mesh) -> Callable:
    """(variables, images, rng) -> (outputs, what the pass changes of the variables), as one call of the model does it.

    Where the model's ``norm_groups`` are whole on each device, the devices meet at the gradient only, not at every
    normalisation: 1.1 to 1.3 times as fast on two CPU cores. The numbers are the same. ``rng`` is for dropout, which
    models with batch statistics have none of.
    """

    def apply(model, variables, images, **rngs):
        mutable = [name for name in variables if name != "params"]
        return model.apply(variables, images, train=True, mutable=mutable, **rngs)

    groups = getattr(model, "norm_groups", 1)
    if mesh.size == 1 or groups % mesh.size:
        return lambda variables, images, rng: apply(model, variables, images, rngs={"dropout": rng})
    local = model.clone(norm_groups=groups // mesh.size)

    def on_device(variables, images):
        outputs, changed = apply(local, variables, images)
        return outputs, lax.pmean(changed, AXIS)

    whole, rows = PartitionSpec(), PartitionSpec(AXIS)
    sharded = jax.shard_map(on_device, mesh=mesh, in_specs=(whole, rows), out_specs=(rows, whole), check_vma=False)
    return lambda variables, images, rng: sharded(variables, images)
