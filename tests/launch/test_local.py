"""launch/local.sh: processes that are killed at random moments, during checkpoints too, learn the same to the bit."""

import random
import re
import subprocess
import time

import pytest

from tests import processes
from tests.launch import launched

pytestmark = pytest.mark.slow
KILLS, STEPS = 6, 600


def start(workdir, **variables):
    command = [str(launched.LAUNCH / "local.sh"), "2", *launched.toy(workdir, STEPS)]
    environment = launched.ENVIRONMENT | variables
    return subprocess.Popen(command, env=environment, cwd=processes.ROOT, stderr=subprocess.PIPE, text=True)


def kill_in_a_checkpoint(workdir, index):
    """Kills a process while a checkpoint is being written."""
    launched.wait_for(lambda: list((workdir / "checkpoints").glob("*tmp*")))
    return launched.kill(workdir, "JAX_PROCESS_ID", index)


def kill_at_random(workdir, index, chance):
    """Kills a process within two seconds of training."""
    before = launched.saved(workdir)
    launched.wait_for(lambda: launched.saved(workdir) > before)
    time.sleep(2 * chance.random())
    return launched.kill(workdir, "JAX_PROCESS_ID", index)


def test_random_kills_leave_no_trace_in_the_weights(tmp_path):
    chance, workdir = random.Random(0), tmp_path / "run"
    run = start(workdir)
    for kill in range(KILLS):
        if kill % 2:
            killed = kill_in_a_checkpoint(workdir, kill // 2 % 2)
        else:
            killed = kill_at_random(workdir, kill // 2 % 2, chance)
        launched.wait_for_others(workdir, "JAX_PROCESS_ID", killed)
    _, told = run.communicate(timeout=300)
    assert run.returncode == 0 and len(re.findall("all start again", told)) == KILLS, told[-3000:]
    launched.assert_same(workdir, launched.undisturbed(tmp_path / "undisturbed", STEPS))


def test_bad_input_is_not_started_again(tmp_path):
    run = start(tmp_path / "run", FAIL_AT="5")
    _, told = run.communicate(timeout=120)
    assert run.returncode == 2 and told.count("error: a picture is damaged") == 2 and "start again" not in told
