"""Joining the other processes of a run that several share, and a line for whatever is wrong with that.

JAX's own runtime ends the process with a C++ stack trace where it cannot reach the coordinator, so that all that can be
found before is found here: what the variables say, and whether somebody listens at the address.
"""

import os
import re
import socket
import sys
import time

import jax

from jaxhw.errors import UserError

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
PATIENCE = 120.0  # seconds in which the coordinator must be there


def start_up(patience: float = PATIENCE) -> None:
    """Joins the other processes when ``JAX_COORDINATOR_ADDRESS`` names their coordinator.

    ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` say how many there are and which this is; on clusters that JAX
    knows (SLURM, TPU pods, Kubernetes) they may be left out. Call before anything touches a device.

    Raises:
      UserError: a variable makes no sense, or nobody listens at the coordinator's address.
    """
    if not (address := os.environ.get(ADDRESS)):
        return
    if not (match := re.fullmatch(r"\[?([^\s\[\]]+?)\]?:(\d{1,5})", address)):
        raise UserError(f"{ADDRESS}={address} must be HOST:PORT, such as 10.0.0.1:1234")
    count, index = _number(COUNT, 1), _number(INDEX, 0)
    if count is not None and index is not None and index >= count:
        raise UserError(f"{INDEX}={index} must be below {COUNT}={count}: processes count from 0")
    if index:  # process 0 is the coordinator itself
        _wait_for(match[1], int(match[2]), f"process {index} of {count or '?'}", patience)
    elif index == 0:
        print(f"process 0 of {count or '?'}: waiting for the others at {address}", file=sys.stderr)
    jax.distributed.initialize(num_processes=count, process_id=index)


def one_process(command: str) -> None:
    """Raises a UserError where several processes are to share the work, which `command` does not."""
    if os.environ.get(ADDRESS):
        raise UserError(f"{command} runs in one process: unset {ADDRESS}")


def _number(name: str, least: int) -> int | None:
    """The whole number that a variable holds; None where it is not set."""
    if not (text := os.environ.get(name)):
        return None
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{name}={text} must be a whole number of at least {least}")
    return int(text)


def _wait_for(host: str, port: int, who: str, patience: float) -> None:
    """Returns when somebody listens at an address."""
    print(f"{who}: waiting up to {patience:.0f} s for the coordinator at {host}:{port}", file=sys.stderr)
    end, reason = time.monotonic() + patience, ""
    while time.monotonic() < end:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(0.2)
    raise UserError(
        f"{who} found no coordinator at {host}:{port} in {patience:.0f} s ({reason}): is process 0 running, and is "
        f"{ADDRESS} its address?"
    )
