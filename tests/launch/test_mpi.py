"""Open MPI's own mpirun starts two processes, one is killed, both are stopped: they continue to the same weights."""

import signal
import subprocess

import pytest

from tests import processes
from tests.launch import launched
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, launched.needs("mpirun")]
MPI = [str(launched.LAUNCH / "mpi.sh"), "2"]


def start(workdir):
    command = [*MPI, *launched.toy(workdir)]
    return subprocess.Popen(command, env=launched.ENVIRONMENT, cwd=processes.ROOT, stderr=subprocess.PIPE, text=True)


def test_a_run_under_mpirun_survives_a_kill_and_a_stop(tmp_path):
    workdir = tmp_path / "run"
    run = start(workdir)
    wait_for(lambda: launched.saved(workdir) >= 20)
    killed = launched.kill(workdir, "OMPI_COMM_WORLD_RANK", 1)
    launched.wait_for_others(workdir, "OMPI_COMM_WORLD_RANK", killed)
    before = launched.saved(workdir)
    wait_for(lambda: launched.saved(workdir) > before)
    run.send_signal(signal.SIGTERM)
    _, told = run.communicate(timeout=120)
    assert "a process was lost; all start again" in told and "process 1 of 2: all are there" in told
    assert not (workdir / "results.json").exists() and launched.saved(workdir) < 160
    _, told = start(workdir).communicate(timeout=120)
    launched.assert_same(workdir, launched.undisturbed(tmp_path / "undisturbed"))
