"""Devices: the mesh that programs run on, and where arrays lie on it."""

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxhw.errors import UserError
from jaxhw.options import Rule, at_least, require
from jaxhw.tree import by_name, path_name

PyTree = Any
Rules = tuple[tuple[str, int | None], ...]  # (path pattern, axis); see `layout`
_RULES = Rule(
    "of (path pattern, axis) pairs such as ('blocks/*', 0)",
    lambda rules: (
        all(isinstance(r, (tuple, list)) and len(r) == 2 and isinstance(r[0], str) for r in rules)
        and all(axis is None or isinstance(axis, int) for _, axis in rules)
    ),
)
LEAST = 2**16  # numbers of an array that is worth dividing: to gather fewer costs more time than they cost memory
_divided = False  # whether `divide_cpu` has said what this process's CPU counts as


def make_mesh(data: int = -1, cpu_devices: int = 1, fsdp: int = 1) -> Mesh:
    """A mesh over the first ``data`` times ``fsdp`` devices (-1: all of them); see `over`.

    ``cpu_devices`` is how many devices a CPU is divided into, unless the environment has set that. A process can
    divide its CPU once, before it computes anything; whoever needs meshes of several numbers calls ``divide_cpu`` with
    the largest first.

    Raises:
      UserError: there are not that many devices, or ``fsdp`` does not divide all of them.
    """
    divide_cpu(cpu_devices)
    devices = _devices(cpu_devices)
    if data == -1:
        return over(devices, fsdp)
    if not 0 < data * fsdp <= len(devices):
        asked = f"config.mesh.data={data}" + (f" times config.mesh.fsdp={fsdp}" if fsdp != 1 else "")
        raise UserError(f"{asked}, but there are {len(devices)} devices; use -1 for all of them")
    return over(devices[: data * fsdp], fsdp)


def over(devices: Sequence[jax.Device], fsdp: int) -> Mesh:
    """Devices as a mesh with the axis ``data``; of more than one for ``fsdp``, with the axes ``data`` and ``fsdp``.

    A batch is divided over both, a state over the last (`layout`): with ``fsdp`` of them, each device has only its part
    of the large parameters and moments, and gathers the others' when it needs them (ZeRO-3, Rajbhandari et al. 2020;
    fully sharded data parallelism).

    Raises:
      UserError: ``fsdp`` does not divide the devices.
    """
    require("config.mesh.fsdp", fsdp, at_least(1), kind=int)
    if len(devices) % fsdp:
        raise UserError(f"config.mesh.fsdp={fsdp} does not divide the {len(devices)} devices")
    axes = {"data": len(devices)} if fsdp == 1 else {"data": len(devices) // fsdp, "fsdp": fsdp}
    kinds = (AxisType.Auto,) * len(axes)
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=kinds, devices=devices)


def of_config(config: ConfigDict) -> Mesh:
    """The mesh that a run's ``config.mesh`` asks for."""
    return make_mesh(config.mesh.data, config.mesh.cpu_devices, config.mesh.fsdp)


def divide_cpu(devices: int) -> None:
    """Lets a CPU count as so many devices, unless the environment or an earlier call in the process has said."""
    global _divided
    require("config.mesh.cpu_devices", devices, at_least(1), kind=int)
    said = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if devices > 1 and not said and not _divided and jax.config.jax_num_cpu_devices < 1:
        with contextlib.suppress(RuntimeError):  # JAX's backends run already
            jax.config.update("jax_num_cpu_devices", devices)
            _divided = True


def _devices(cpu_devices: int) -> list[jax.Device]:
    """All devices; of CPUs that ``divide_cpu`` has divided, as many of each process as are asked for."""
    if not _divided or jax.default_backend() != "cpu":
        return jax.devices()
    return [d for process in range(jax.process_count()) for d in jax.local_devices(process)[:cpu_devices]]


def check_batch_size(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
    """Raises a UserError unless the mesh's devices divide the global batch, or each part that it is cut into."""
    require("config.accumulate", accumulate, at_least(1), kind=int)
    require("config.batch_size", batch_size, at_least(1), kind=int)
    if batch_size % (mesh.size * accumulate):
        among = f"{mesh.size} devices" + (f" in config.accumulate={accumulate} parts" if accumulate > 1 else "")
        multiple = "them" if accumulate == 1 else str(mesh.size * accumulate)
        raise UserError(f"config.batch_size={batch_size} cannot be divided among {among}; use a multiple of {multiple}")


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The first axis is divided among all devices, whatever axes they are ordered by."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def layout(abstract: PyTree, mesh: Mesh, rules: Rules = ()) -> PyTree:
    """Where each array of a state lies: whole on every device, or divided along one axis, over the mesh's last.

    Without a rule for it an array is whole on a mesh of one axis. On one with the axis ``fsdp`` it is divided along its
    longest axis that ``fsdp`` divides, if it has at least ``LEAST`` numbers.

    Args:
      abstract: the state, or its shapes (anything whose leaves have a ``shape``).
      rules: (pattern, axis) pairs. A leaf belongs to the last pair whose shell-style pattern matches the end of its
        path: "blocks/*kernel" means "params/blocks/mlp/kernel" and its moments in the optimiser alike. It is divided
        along that axis where it has one that the devices divide; an axis of None keeps it whole.

    Returns:
      A NamedSharding for each leaf.

    Raises:
      UserError: ``rules`` are none.
    """
    require("config.mesh.layout", rules, _RULES, kind=tuple)
    last = mesh.axis_names[-1]

    def place(path: tuple, leaf: Any) -> NamedSharding:
        name, rank = path_name(path), len(leaf.shape)
        asked = [axis for pattern, axis in rules if _matches(name, pattern)]
        axis = asked[-1] if asked else _fsdp_axis(leaf.shape, mesh)
        if axis is None or not -rank <= axis < rank or leaf.shape[axis] % mesh.shape[last]:
            return replicated(mesh)
        return NamedSharding(mesh, PartitionSpec(*[None] * (axis % rank), last))

    return jax.tree_util.tree_map_with_path(place, abstract)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, f"*{pattern}")


def _fsdp_axis(shape: tuple[int, ...], mesh: Mesh) -> int | None:
    """Along which axis an array is divided that no rule names; None: it stays whole."""
    parts = mesh.shape.get("fsdp", 1)
    fitting = [axis for axis, size in enumerate(shape) if size % parts == 0]
    if parts == 1 or not fitting or math.prod(shape) < LEAST:
        return None
    return max(fitting, key=lambda axis: shape[axis])


def check_rules(abstract: PyTree, rules: Rules) -> None:
    """Raises a UserError unless ``rules`` are some, each of which matches a leaf of the state; see `layout`."""
    require("config.mesh.layout", rules, _RULES, kind=tuple)
    names = list(by_name(abstract))
    for pattern, _ in rules:
        if not any(_matches(name, pattern) for name in names):
            example = next((name for name in names if name.startswith("params/")), names[0])
            raise UserError(f"config.mesh.layout: {pattern!r} matches no parameter; they have names such as {example}")


def gathered(arrays: PyTree, mesh: Mesh) -> PyTree:
    """Parameters that the axis ``fsdp`` divides, whole on every device for what is computed of them. Traced.

    Else the compiler may divide what is computed of them alike, and send activations in the place of parameters.
    """
    return jax.lax.with_sharding_constraint(arrays, replicated(mesh)) if "fsdp" in mesh.axis_names else arrays


def divides(mesh: Mesh, rules: Rules) -> bool:
    """Whether `layout` may divide any array."""
    return bool(rules) or "fsdp" in mesh.axis_names


def laid_out(state: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """The state where `layout` has it, also where the compiler would lay it elsewhere. Traced."""
    return jax.lax.with_sharding_constraint(state, layout(state, mesh, rules)) if divides(mesh, rules) else state


def my_rows(batch_size: int) -> slice:
    """The rows of a global batch that this process supplies."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def put_rows(local: PyTree, mesh: Mesh) -> PyTree:
    """Host arrays [rows of this process, ...] -> global device arrays [rows of all, ...]."""
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(by_row(mesh), rows), local)


def put_replicated(host: PyTree, mesh: Mesh) -> PyTree:
    """Host arrays, the same on every process -> global device arrays, whole on every device."""
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(replicated(mesh), a, a.shape), host)


def on_mesh(make: Callable[[], PyTree], mesh: Mesh) -> PyTree:
    """Evaluates ``make`` under jit with every result replicated over the mesh."""
    return jax.jit(make, out_shardings=replicated(mesh))()


def summed(local: Callable[..., PyTree], mesh: Mesh, shared: PyTree, *rows: PyTree) -> PyTree:
    """`local(shared, *rows)` of each device's part of the rows, added up; for programs that are written per device.

    Differentiable: the gradient with respect to ``shared`` is added up once, at the end, not in each of its uses.

    Args:
      shared: the same on every device.
      rows: arrays whose first axis is divided among the devices.
    """

    def on_device(shared: PyTree, *rows: PyTree) -> PyTree:
        shared = jax.tree.map(lambda x: jax.lax.pcast(x, mesh.axis_names, to="varying"), shared)
        return jax.tree.map(lambda x: jax.lax.psum(x, mesh.axis_names), local(shared, *rows))

    everywhere, divided = PartitionSpec(), by_row(mesh).spec
    specs = (everywhere, *(divided for _ in rows))
    return jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=everywhere)(shared, *rows)


def make_greatest(mesh: Mesh) -> Callable[[int], jax.Array | int]:
    """(small whole number) -> the greatest of all processes'. All must call it; none waits: it is on the devices."""
    if jax.process_count() == 1:
        return lambda number: number
    rows, greatest = sum(d.process_index == jax.process_index() for d in mesh.devices.flat), jax.jit(jnp.max)
    return lambda number: greatest(put_rows(np.full(rows, number, np.int8), mesh))


def any_process(flag: bool) -> bool:
    """Whether the flag is set on any process. All processes must call it."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
