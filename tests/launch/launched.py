"""What the tests of the launchers share: a run of the toy task under one, and the same run undisturbed."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxhw import metrics
from tests import processes
from tests.toy import final_state
from tests.waiting import wait_for

LAUNCH = processes.ROOT / "launch"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(processes.ROOT),
    "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
}
ENVIRONMENT |= {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def needs(*programs: str, root: bool = False) -> pytest.MarkDecorator:
    """Skips where programs are missing that this machine would have to have."""
    missing = [name for name in programs if not shutil.which(name)]
    reason = f"{', '.join(missing)} missing: install Debian's slurmctld slurmd slurm-client openmpi-bin iproute2"
    return pytest.mark.skipif(bool(missing) or (root and os.geteuid() != 0), reason=reason if missing else "not root")


def toy(workdir: Path, steps: int = 160) -> list[str]:
    """The command of a run that takes a twentieth of a second a step."""
    return [sys.executable, "-m", "tests.slow_toy", str(workdir), str(steps)]


def saved(workdir: Path) -> int:
    """The newest checkpoint's step; 0 before there is one."""
    return max((int(path.name[5:]) for path in (workdir / "checkpoints").glob("step_*[0-9]")), default=0)


def modified(path: Path) -> float:
    """When a file or folder was last changed; 0 where it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def ranks(workdir: Path, variable: str) -> dict[int, int]:
    """The processes of a run, by the number that a variable of their environment holds."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"tests.slow_toy\0" + str(workdir).encode() in (folder / "cmdline").read_bytes():
                variables = dict(v.split("=", 1) for v in (folder / "environ").read_text().split("\0") if "=" in v)
                if variable in variables:
                    found[int(variables[variable])] = int(folder.name)
    return found


def kill(workdir: Path, variable: str, index: int) -> dict[int, int]:
    """Kills one of a run's two processes; gives those that there were."""
    before = ranks(workdir, variable)
    os.kill(before[index], signal.SIGKILL)
    return before


def wait_for_both(workdir: Path, variable: str) -> None:
    """Returns when both processes are there."""
    wait_for(lambda: ranks(workdir, variable).keys() == {0, 1})


def wait_for_others(workdir: Path, variable: str, before: dict[int, int]) -> None:
    """Returns when both processes have been started anew."""
    wait_for(
        lambda: (now := ranks(workdir, variable)).keys() == {0, 1} and not set(now.values()) & set(before.values())
    )


def undisturbed(workdir: Path, steps: int = 160) -> Path:
    """A run of two processes that nobody disturbs."""
    for process in processes.two_of(toy(workdir, steps)[1:]):
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told.decode()[-3000:]
    return workdir


def assert_same(workdir: Path, other: Path) -> None:
    """Two finished runs have the same weights, bit for bit, and the same logs."""
    assert metrics.results(workdir)["test_error"] == metrics.results(other)["test_error"]
    one, two = final_state(workdir), final_state(other)
    np.testing.assert_array_equal(one["params"]["w"], two["params"]["w"])
    lines = [[line["step"] for line in metrics.read(w / "metrics.jsonl")] for w in (workdir, other)]
    assert lines[0] == lines[1]


def run(*command: str, **variables: str) -> str:
    """What a command prints; it must succeed."""
    environment = ENVIRONMENT | variables
    done = subprocess.run(command, env=environment, cwd=processes.ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
