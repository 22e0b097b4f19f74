"""Programs in processes of their own: two that share the work, and one with as many devices to compare with."""

import os
import subprocess
import sys
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent


def two_and_one(two: list[str], one: list[str], timeout: float = 600) -> None:
    """Runs ``python *two`` as two processes of one device each, beside ``python *one`` with two; all must succeed."""
    for process in (*two_of(two), start(one, 2)):
        _, errors = process.communicate(timeout=timeout)
        assert process.returncode == 0, errors.decode()[-3000:]


def two_of(arguments: list[str], devices: int = 1, **second: str) -> list[subprocess.Popen]:
    """``python *arguments`` as two processes that share their work; ``second``: variables of the second alone."""
    common = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    return [
        start(arguments, devices, JAX_PROCESS_ID="0", **common),
        start(arguments, devices, JAX_PROCESS_ID="1", **common, **second),
    ]


def start(arguments: list[str], devices: int, **more: str) -> subprocess.Popen:
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **flags, **more}
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def run_script(source: str, folder: Path, timeout: float = 600) -> None:
    """Runs a Python program in a folder, as a user who has the package would; it must succeed."""
    script = folder / "script.py"
    script.write_text(source)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
