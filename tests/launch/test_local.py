"""launch/local.sh: what is wrong is told by both processes, and nothing is started again."""

import subprocess

import pytest

from tests import processes
from tests.launch import launched

pytestmark = pytest.mark.slow


def test_bad_input_is_not_started_again(tmp_path):
    command = [str(launched.LAUNCH / "local.sh"), "2", *launched.toy(tmp_path / "run")]
    environment = launched.ENVIRONMENT | {"FAIL_AT": "5"}
    run = subprocess.Popen(command, env=environment, cwd=processes.ROOT, stderr=subprocess.PIPE, text=True)
    _, told = run.communicate(timeout=120)
    assert run.returncode == 2 and told.count("error: a picture is damaged") == 2 and "start again" not in told
