"""What is wrong with the variables that join processes is one line, before JAX's runtime ends the process."""

import socket
import time

import pytest

from jaxhw import joining
from jaxhw.__main__ import main
from jaxhw.errors import UserError


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ADDRESS": "nonsense"}, "JAX_COORDINATOR_ADDRESS=nonsense must be HOST:PORT"),
        ({"ADDRESS": "a b:1"}, "must be HOST:PORT"),
        ({"ADDRESS": "host:123", "COUNT": "x"}, "JAX_NUM_PROCESSES=x must be a whole number of at least 1"),
        ({"ADDRESS": "host:123", "INDEX": "-1"}, "JAX_PROCESS_ID=-1 must be a whole number of at least 0"),
        ({"ADDRESS": "host:123", "COUNT": "2", "INDEX": "5"}, "JAX_PROCESS_ID=5 must be below JAX_NUM_PROCESSES=2"),
    ],
)
def test_variables_that_make_no_sense(monkeypatch, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(getattr(joining, name), value)
    with pytest.raises(UserError) as error:
        joining.start_up()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_no_coordinator_is_one_line_within_the_time_that_was_said(monkeypatch, capsys):
    with socket.socket() as free:  # a port that nobody listens at
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in (("ADDRESS", f"127.0.0.1:{port}"), ("COUNT", "2"), ("INDEX", "1")):
        monkeypatch.setenv(getattr(joining, name), value)
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"process 1 of 2 found no coordinator at 127.0.0.1:{port} in 1 s \(.*refused"):
        joining.start_up(patience=1.0)
    assert time.monotonic() - began < 10
    told = capsys.readouterr().err
    assert told == f"process 1 of 2: waiting up to 1 s for the coordinator at 127.0.0.1:{port}\n"


def test_commands_of_one_process_say_so(monkeypatch, capsys):
    monkeypatch.setenv(joining.ADDRESS, "host:123")
    for command, config in (("sweep", "sweep_vit"), ("study", "study_size")):
        assert main([command, f"--config=configs/{config}.py", "--workdir=runs/none"]) == 2
        told = capsys.readouterr().err
        assert told == f"error: jaxhw {command} runs in one process: unset JAX_COORDINATOR_ADDRESS\n"
