"""Programs in processes of their own: two that share the work, and one with as many devices to compare with."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def two_and_one(two: list[str], one: list[str], timeout: float = 600) -> None:
    """Runs ``python *two`` as two processes of one device each, beside ``python *one`` with two; all must succeed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    processes = [_start(two, 1, JAX_PROCESS_ID=str(i), **common) for i in range(2)]
    processes.append(_start(one, 2))
    for process in processes:
        _, errors = process.communicate(timeout=timeout)
        assert process.returncode == 0, errors.decode()[-3000:]


def _start(arguments: list[str], devices: int, **more: str) -> subprocess.Popen:
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **flags, **more}
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
