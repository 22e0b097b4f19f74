"""A real SLURM on this machine runs launch/slurm.sbatch, preempts it, and it continues to the same weights."""

import socket
import subprocess
from pathlib import Path

import pytest

from tests import ports, processes
from tests.launch import launched
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, launched.needs("slurmctld", "slurmd", "sbatch", root=True)]


@pytest.fixture
def slurm(tmp_path):
    """Starts the two daemons; gives the environment in which SLURM's commands find them."""
    for name in ("state", "spool"):
        (tmp_path / name).mkdir()
    text = (Path(__file__).parent / "slurm.conf").read_text()
    filled = {"FOLDER": tmp_path, "HOST": socket.gethostname().split(".")[0]}
    filled |= {"PORT": ports.free_port(), "PORT_OF_NODE": ports.free_port()}
    for name, value in filled.items():
        text = text.replace(f"{{{name}}}", str(value))
    (tmp_path / "slurm.conf").write_text(text)
    environment = launched.ENVIRONMENT | {"SLURM_CONF": str(tmp_path / "slurm.conf")}
    daemons = [subprocess.Popen([name, "-D"], env=environment) for name in ("slurmctld", "slurmd")]
    try:
        wait_for(lambda: "idle" in said("sinfo", environment))
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def said(command: str, environment: dict[str, str]) -> str:
    """What a command of SLURM's prints, whether or not it succeeds."""
    done = subprocess.run(command.split(), env=environment, cwd=processes.ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr


def submit(environment, tmp_path, *options_and_command):
    """The number of a new job of two tasks."""
    options = ["--parsable", "--ntasks=2", "--ntasks-per-node=2", f"--output={tmp_path}/job.out"]
    return launched.run("sbatch", *options, *options_and_command, **environment).strip()


def finished(job, environment):
    shown = said(f"scontrol show job {job}", environment)
    assert not any(state in shown for state in ("FAILED", "CANCELLED", "NODE_FAIL")), shown
    return "JobState=COMPLETED" in shown and shown


def test_a_requeued_job_continues_to_the_same_weights(slurm, tmp_path):
    workdir = tmp_path / "run"
    job = submit(slurm, tmp_path, "launch/slurm.sbatch", *launched.toy(workdir))
    wait_for(lambda: launched.saved(workdir) >= 20)
    said(f"scontrol requeue {job}", slurm)
    assert "Restarts=1" in wait_for(lambda: finished(job, slurm))
    told = (tmp_path / "job.out").read_text()
    assert "process 1 of 2: all are there" in told and "stopped at step" in told
    launched.assert_same(workdir, launched.undisturbed(tmp_path / "undisturbed"))


def test_a_job_whose_process_is_killed_requeues_itself(slurm, tmp_path):
    workdir = tmp_path / "run"
    job = submit(slurm, tmp_path, "launch/slurm.sbatch", *launched.toy(workdir))
    wait_for(lambda: launched.saved(workdir) >= 20)
    launched.kill(workdir, "SLURM_PROCID", 1)
    assert "Restarts=1" in wait_for(lambda: finished(job, slurm))
    assert "process 1 on " in (tmp_path / "job.out").read_text()
    launched.assert_same(workdir, launched.undisturbed(tmp_path / "undisturbed"))


def test_an_array_is_a_run_each(slurm, tmp_path):
    command = ["--array=0-1", "--ntasks=1", "--ntasks-per-node=1", "launch/slurm.sbatch", "touch", f"{tmp_path}/run_%a"]
    job = submit(slurm, tmp_path, *command)
    wait_for(lambda: finished(f"{job}_0", slurm) and finished(f"{job}_1", slurm))
    assert (tmp_path / "run_0").exists() and (tmp_path / "run_1").exists()
