"""Which job a process belongs to: what its flags, its environment and the launcher that started it say."""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from jaxhw.errors import UserError

PATIENCE = 120.0  # seconds in which all processes must be there
FLAGS = {"coordinator": "", "processes": "", "process": ""}
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")  # of the same meanings
# What a launcher leaves in the environment of each process that it starts, for several.
_LAUNCHERS = {
    "SLURM": "SLURM_STEP_NODELIST",
    "Open MPI": "OMPI_COMM_WORLD_SIZE",
    "Kubernetes": "JOB_COMPLETION_INDEX",
    "Cloud TPU": "TPU_WORKER_HOSTNAMES",
}


class Job(NamedTuple):
    """Several processes that share a run: where they meet, how many they are, and which of them this is."""

    host: str
    port: int
    count: int
    index: int
    local_devices: tuple[int, ...] | None = None  # those of its host that are this process's; None for all

    def __str__(self) -> str:
        return f"process {self.index} of {self.count}"


def find(flags: Mapping[str, str] = FLAGS) -> Job | None:
    """The job that this process belongs to; None where it is alone.

    Flags come before the variables of JAX (``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES``, ``JAX_PROCESS_ID``), and
    those before what a launcher says; what one leaves out the next may say.

    Args:
      flags: the values of ``--coordinator=HOST:PORT``, ``--processes=N`` and ``--process=I``; empty where not given.

    Raises:
      UserError: what they say makes no sense, or is not all that is needed.
    """
    said = [
        (f"--{flag}", value) if value else (variable, os.environ.get(variable))
        for (flag, value), variable in zip(flags.items(), _VARIABLES, strict=True)
    ]
    address, count, index = _address(*said[0]), _number(*said[1], 1), _number(*said[2], 0)
    local_devices = None
    if None in (address, count, index) and (launcher := _launcher()):
        address, count, index, local_devices = _detected(launcher, address, count, index)
    if address is None and count is None and index is None:
        return None
    if None in (address, count, index):
        raise UserError("several processes need --coordinator=HOST:PORT, --processes=N and --process=I, all three")
    if index >= count:
        raise UserError(f"{said[2][0]}={index} must be below {said[1][0]}={count}: processes count from 0")
    host, port = address.rsplit(":", 1)
    return Job(host.strip("[]"), int(port), count, index, local_devices) if count > 1 else None


def one_process(command: str) -> None:
    """Raises a UserError where several processes are to share the work, which `command` does not."""
    if found := find():
        raise UserError(
            f"{command} runs in one process, and this is {found}: start it several times, to share its work"
        )


def _address(name: str, text: str | None) -> str | None:
    if text and not re.fullmatch(r"(\[[^\s\[\]]+\]|[^\s\[\]]+):\d{1,5}", text):
        raise UserError(f"{name}={text} must be HOST:PORT, such as 10.0.0.1:1234")
    return text or None


def _number(name: str, text: str | None, least: int) -> int | None:
    """A whole number; None where there is no text."""
    if not text:
        return None
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{name}={text} must be a whole number of at least {least}")
    return int(text)


def _launcher() -> str | None:
    """The launcher whose variables this process has."""
    from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm

    found = next((name for name, variable in _LAUNCHERS.items() if variable in os.environ), None)
    return found or ("Cloud TPU" if running_in_cloud_tpu_vm else None)


def _detected(launcher: str, address: str | None, count: int | None, index: int | None) -> tuple:
    """What JAX finds of a job in the environment, as (address, count, index, local devices)."""
    from jax._src.clusters import ClusterEnv  # `jax.distributed.initialize` would not say where it waits

    try:
        *found, devices = ClusterEnv.auto_detect_unset_distributed_params(
            address, count, index, None, None, int(PATIENCE)
        )
    except Exception as error:  # whatever a metadata server or a missing variable brings
        told = str(error).split("\n")[0]
        raise UserError(
            f"{launcher} has started this process, but does not say where the others are ({told}): "
            "give --coordinator=HOST:PORT, --processes=N and --process=I"
        ) from error
    return (*found, None if devices is None else tuple(devices))
