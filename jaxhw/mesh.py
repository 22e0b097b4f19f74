"""Devices: the mesh that programs run on, and where arrays lie on it."""

import contextlib
import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxhw.errors import UserError
from jaxhw.options import Rule, at_least, require
from jaxhw.tree import path_name

PyTree = Any
Rules = tuple[tuple[str, int | None], ...]  # (path pattern, axis); see `layout`
_RULES = Rule(
    "of (path pattern, axis) pairs such as ('blocks/*', 0)",
    lambda rules: (
        all(isinstance(r, (tuple, list)) and len(r) == 2 and isinstance(r[0], str) for r in rules)
        and all(axis is None or isinstance(axis, int) for _, axis in rules)
    ),
)
_divided = False  # whether `divide_cpu` has said what this process's CPU counts as


def make_mesh(data: int = -1, cpu_devices: int = 1) -> Mesh:
    """A mesh with the one axis ``data`` over the first ``data`` devices (-1: all of them).

    ``cpu_devices`` is how many devices a CPU is divided into, unless the environment has set that. A process can
    divide its CPU once, before it computes anything; whoever needs meshes of several numbers calls ``divide_cpu`` with
    the largest first.

    Raises:
      UserError: there are not that many devices.
    """
    divide_cpu(cpu_devices)
    devices = _devices(cpu_devices)
    count = len(devices) if data == -1 else data
    if not 0 < count <= len(devices):
        raise UserError(f"config.mesh.data={data}, but there are {len(devices)} devices; use -1 for all of them")
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])


def of_config(config: ConfigDict) -> Mesh:
    """The mesh that a run's ``config.mesh`` asks for."""
    return make_mesh(config.mesh.data, config.mesh.cpu_devices)


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


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises a UserError unless the mesh's devices divide the global batch."""
    require("config.batch_size", batch_size, at_least(1), kind=int)
    if batch_size % mesh.size:
        raise UserError(
            f"config.batch_size={batch_size} cannot be divided among {mesh.size} devices; use a multiple of them"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The first axis is divided among the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def layout(abstract: PyTree, mesh: Mesh, rules: Rules = ()) -> PyTree:
    """Where each array of a state lies: whole on every device, or divided among them along one axis.

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

    def place(path: tuple, leaf: Any) -> NamedSharding:
        name, rank = path_name(path), len(leaf.shape)
        axis = next((axis for pattern, axis in reversed(rules) if fnmatchcase(name, f"*{pattern}")), None)
        if axis is None or not -rank <= axis < rank or leaf.shape[axis] % mesh.size:
            return replicated(mesh)
        return NamedSharding(mesh, PartitionSpec(*[None] * (axis % rank), "data"))

    return jax.tree_util.tree_map_with_path(place, abstract)


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
        shared = jax.tree.map(lambda x: jax.lax.pcast(x, "data", to="varying"), shared)
        return jax.tree.map(lambda x: jax.lax.psum(x, "data"), local(shared, *rows))

    everywhere, by_rows = PartitionSpec(), PartitionSpec("data")
    specs = (everywhere, *(by_rows for _ in rows))
    return jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=everywhere)(shared, *rows)


def make_any_process(mesh: Mesh) -> Callable[[bool], jax.Array | bool]:
    """`any_process` for use in a loop: (flag) -> what need not be waited for, since it is still on the devices."""
    if jax.process_count() == 1:
        return lambda flag: flag
    rows, any_row = sum(d.process_index == jax.process_index() for d in mesh.devices.flat), jax.jit(jnp.any)
    return lambda flag: any_row(put_rows(np.full(rows, flag), mesh))


def any_process(flag: bool) -> bool:
    """Whether the flag is set on any process. All processes must call it."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
