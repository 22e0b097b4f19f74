"""Processes that wait for each other say so, and what goes wrong with that is one line."""

import socket
import time

import pytest

from jaxhw import joining, peers
from jaxhw.errors import UserError
from jaxhw.job import Job
from jaxhw.joining import Alone
from tests import processes
from tests.ports import free_port


def join(job, patience):
    with joining.joined(job, patience):
        raise AssertionError("joined nobody")


def test_no_coordinator_is_one_line_within_the_time_that_was_said(capsys):
    port, began = free_port(), time.monotonic()
    with pytest.raises(Alone, match=rf"process 1 of 2 found no coordinator at 127.0.0.1:{port} in 1 s \(.*refused"):
        join(Job("127.0.0.1", port, 2, 1), patience=1.0)
    assert time.monotonic() - began < 10
    told = capsys.readouterr().err
    assert told == f"process 1 of 2: waiting up to 1 s for the coordinator at 127.0.0.1:{port}\n"


def test_a_taken_port_is_one_line():
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"process 0 of 2 cannot listen at port {port} \(Address already in use\)"):
            join(Job("127.0.0.1", port, 2, 0), patience=1.0)


ALONE = """
import sys
from jaxhw import errors, joining
from jaxhw.job import Job
from jaxhw.joining import Alone
def main():
    with joining.joined(Job("127.0.0.1", {port}, 2, 0), patience=3.0):
        pass
sys.exit(errors.exit_code(main))
"""


def test_a_coordinator_to_whom_nobody_comes_ends_with_one_line():
    port = free_port()
    process = processes.start(["-c", ALONE.format(port=port)], 1)
    _, told = process.communicate(timeout=60)
    assert process.returncode == peers.LOST, told.decode()  # the launcher is to start all again
    assert told.decode().splitlines() == [
        f"process 0 of 2: waiting up to 3 s for the others at 127.0.0.1:{port}",
        f"error: process 0 of 2: not all of the 2 came to 127.0.0.1:{port} in 3 s",
    ]
