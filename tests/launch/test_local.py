"""launch/local.sh: processes killed at random moments learn the same to the bit; bad input is not tried again."""

import contextlib
import os
import random
import subprocess
import time

import pytest

from tests import processes
from tests.launch import launched
from tests.waiting import wait_for

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("JAXHW_KILLS", "3"))  # 20 take a quarter of an hour
STEPS = 60 * (KILLS + 1)


@contextlib.contextmanager
def started(workdir, **variables):
    command = [str(launched.LAUNCH / "local.sh"), "2", *launched.toy(workdir, STEPS)]
    environment = launched.ENVIRONMENT | variables
    run = subprocess.Popen(command, env=environment, cwd=processes.ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield run
    finally:
        run.terminate()  # where the test has failed


def wait_for_a_checkpoint_being_written(workdir, began, chance):
    """Not for one that an earlier kill has left."""
    being_written = lambda: [p for p in (workdir / "checkpoints").glob("*tmp*") if launched.modified(p) > began]
    wait_for(being_written, every=0.002)
    time.sleep(0.2 * chance.random())


def wait_in_training(workdir, began, chance):
    before = launched.saved(workdir)
    wait_for(lambda: launched.saved(workdir) > before)
    time.sleep(2 * chance.random())


def wait_in_the_start(workdir, began, chance):
    """Before or after the processes have found each other."""
    time.sleep(10 * chance.random())


def test_random_kills_leave_no_trace_in_the_weights(tmp_path):
    chance, workdir = random.Random(0), tmp_path / "run"
    moments = [wait_for_a_checkpoint_being_written, wait_in_training, wait_for_a_checkpoint_being_written]
    moments += [wait_in_training, wait_in_the_start]
    with started(workdir, RESTARTS=str(2 * KILLS)) as run:
        began = time.time()
        for number in range(KILLS):
            launched.wait_for_both(workdir, "JAX_PROCESS_ID")
            moments[number % len(moments)](workdir, began, chance)
            killed, began = launched.kill(workdir, "JAX_PROCESS_ID", number // 2 % 2), time.time()
            launched.wait_for_others(workdir, "JAX_PROCESS_ID", killed)
        _, told = run.communicate(timeout=600)
    assert run.returncode == 0 and told.count("all start again") >= KILLS, told[-3000:]
    launched.assert_same(workdir, launched.undisturbed(tmp_path / "undisturbed", STEPS))


def test_bad_input_is_not_started_again(tmp_path):
    with started(tmp_path / "run", FAIL_AT="5") as run:
        _, told = run.communicate(timeout=120)
    assert run.returncode == 2 and told.count("error: a picture is damaged") == 2 and "start again" not in told
