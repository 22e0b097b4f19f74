"""What the command refuses, in one line, before it serves anything; that it serves, and ends when it is asked to."""

import os
import signal
import socket
import threading
import time
import urllib.request

import pytest

from jaxhw import claims
from jaxhw.__main__ import main
from jaxhw.vision.tasks import classify
from tests.nerf.test_task import tiny


def view(workdir, *options):
    return main(["view", f"--workdir={workdir}", *options])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--port=0",), "--port=0 must be a whole number of at least 1"),
        (("--port=70000",), "--port=70000 must be a whole number of at least 1 and below 65536"),
        (("--port=x",), "argument --port: invalid int value: 'x'; see jaxhw view --help"),
    ],
)
def test_ports_that_cannot_be(tmp_path, capsys, options, line):
    assert view(tmp_path, *options) == 2
    assert line in capsys.readouterr().err


def test_a_folder_that_is_no_workdir(tmp_path, capsys):
    assert view(tmp_path) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is no workdir: it has no config.json\n"


@pytest.fixture(params=["nerf", "classify"])
def begun(request, tmp_path):
    """A workdir that a run has claimed, and nothing more."""
    config = tiny() if request.param == "nerf" else classify.default_config("resnet18")
    claims.claim(tmp_path, config)
    return tmp_path


def test_a_taken_port(begun, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert view(begun, f"--port={port}") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: port {port} is in use; --port=") and told.count("\n") == 1


def test_a_host_of_another_machine(begun, capsys):
    assert view(begun, "--host=192.0.2.1") == 2
    assert "cannot listen on 192.0.2.1:8080: EADDRNOTAVAIL" in capsys.readouterr().err


def test_a_scene_without_a_checkpoint(tmp_path, capsys):
    claims.claim(tmp_path, tiny())
    assert view(tmp_path, "--port=18471") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_on_images_is_served_until_the_command_is_ended(tmp_path, capsys):
    claims.claim(tmp_path, classify.default_config("resnet18"))
    (tmp_path / "metrics.jsonl").write_text('{"step": 7, "time": 1.5, "loss": 2.5, "epoch": 1.0}\n')
    pages = []

    def browse():
        for _ in range(100):
            time.sleep(0.2)
            try:
                pages.append(urllib.request.urlopen("http://127.0.0.1:18472/").read().decode())
            except OSError:
                continue
            if "step 7" in pages[-1]:
                break
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=browse).start()
    assert view(tmp_path, "--port=18472") == 0
    assert "loss 2.5" in pages[-1]
    assert "viewer: http://127.0.0.1:18472" in capsys.readouterr().out
