"""Ghost batch normalisation over several devices: each part of the batch is normalised on the device it lies on."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from jaxhw import mesh as meshes
from jaxhw.errors import UserError, warn

PyTree = Any


def check(config: ConfigDict, batch_norm: bool) -> None:
    """Raises a UserError unless the model's parts divide what it sees of a batch at once (`config.accumulate`).

    Says of how many images batch statistics are, where they are not those of the whole batch.
    """
    groups, images = config.model.get("norm_groups", 1), config.batch_size // config.accumulate
    if images % groups:
        over = f" / config.accumulate={config.accumulate}" if config.accumulate > 1 else ""
        raise UserError(f"config.model.norm_groups={groups} must divide config.batch_size={config.batch_size}{over}")
    if batch_norm and config.accumulate > 1:
        warn(f"config.accumulate={config.accumulate}: batch statistics are those of {images // groups} images")


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
        model, gathered = _gathering(model, mesh)
        return lambda variables, images, rng: apply(model, gathered(variables), images, rngs={"dropout": rng})
    # Elsewhere each device runs a model with only its own parts, and averages the running statistics with the others.
    local = model.clone(norm_groups=groups // mesh.size)

    def on_device(variables: Mapping, images: jax.Array) -> tuple[jax.Array, PyTree]:
        outputs, changed = apply(local, variables, images)
        return outputs, lax.pmean(changed, mesh.axis_names)

    whole, rows = PartitionSpec(), meshes.by_row(mesh).spec
    sharded = jax.shard_map(on_device, mesh=mesh, in_specs=(whole, rows), out_specs=(rows, whole), check_vma=False)
    return lambda variables, images, rng: sharded(variables, images)


def _gathering(model: nn.Module, mesh: Mesh) -> tuple[nn.Module, Callable[[PyTree], PyTree]]:
    """(the model, its variables -> what to apply it to) where ``config.mesh.fsdp`` devices share the variables.

    They are gathered when they are needed; a model that computes its ``layered`` entries one by one gathers them so.
    """
    gather, layered = functools.partial(meshes.gathered, mesh=mesh), getattr(model, "layered", ())

    def gathered(variables: PyTree) -> PyTree:
        params = {name: p if name in layered else gather(p) for name, p in variables["params"].items()}
        return {**variables, "params": params}

    return (model.clone(gather=gather) if layered else model), gathered
