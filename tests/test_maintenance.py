"""Notices of maintenance, from a metadata server of our own."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jaxhw import maintenance, metrics, train
from jaxhw import mesh as meshes
from jaxhw.maintenance import Notice
from jaxhw.observer import Observer
from tests import processes
from tests.toy import Toy, final_state, toy_config
from tests.waiting import wait_for

EVENT = "TERMINATE_ON_HOST_MAINTENANCE"


class Server:
    """What Google's server answers: an event, to those who ask as it wants to be asked."""

    def __init__(self):
        self.event, self.status, self.asked = "NONE", 200, 0

    def answer(self, request):
        known = request.path == "/computeMetadata/v1/instance/maintenance-event"
        proper = request.headers["Metadata-Flavor"] == "Google"
        request.send_response(self.status if known and proper else 403)
        request.end_headers()
        request.wfile.write(self.event.encode())
        self.asked += 1

    def wait(self):
        """Returns when it has been asked anew, and the answer has been read."""
        seen = self.asked
        wait_for(lambda: self.asked >= seen + 2, every=0.01)


def saved(workdir):
    """The steps of a run's checkpoints."""
    return sorted(int(path.name.removeprefix("step_")) for path in (workdir / "checkpoints").glob("step_*[0-9]"))


@pytest.fixture
def server(monkeypatch):
    said = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            said.answer(self)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{listening.server_port}")
        monkeypatch.setattr(maintenance, "EVERY", 0.02)
        yield said
        listening.shutdown()


def test_each_event_is_one_notice(server, capsys):
    with Notice() as notice:
        server.wait()
        assert not notice.taken()
        server.event = EVENT
        server.wait()
        assert notice.taken() and not notice.taken()
        server.wait()  # still the same event
        assert not notice.taken()
        server.event = "NONE"
        server.wait()
        server.event = EVENT  # the next one
        server.wait()
        assert notice.taken()
    told = capsys.readouterr().err.splitlines()
    assert told == [f"this machine is about to be maintained ({EVENT}): saving, and going on"] * 2


def test_a_server_that_fails_gives_no_notice_and_ends_nothing(server, capsys):
    server.event, server.status = EVENT, 503
    with Notice() as notice:
        server.wait()
        assert not notice.taken()
        server.status = 200
        server.wait()
        assert notice.taken()


def test_nobody_is_asked_once_the_run_has_ended(server):
    with Notice():
        server.wait()
    time.sleep(0.1)
    asked = server.asked
    time.sleep(0.2)
    assert server.asked == asked


@pytest.mark.parametrize(
    ("product", "host"), [("Google Compute Engine\n", "metadata.google.internal"), ("VirtualBox\n", ""), (None, "")]
)
def test_the_server_of_a_machine(monkeypatch, tmp_path, product, host):
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
    monkeypatch.setattr(maintenance, "PRODUCT", tmp_path / "product_name")
    if product:
        (tmp_path / "product_name").write_text(product)
    assert maintenance.metadata_host() == host
    monkeypatch.setenv("GCE_METADATA_HOST", "10.0.0.1:80")
    assert maintenance.metadata_host() == "10.0.0.1:80"


def test_nothing_listens_there():
    assert maintenance.ask("127.0.0.1:9") == ""


def test_a_run_saves_at_a_notice_and_goes_on(server, tmp_path):
    class Maintained(Observer):
        def after_step(self, step, snapshot):
            if step == 10:
                server.event = EVENT
                server.wait()

    config, mesh = toy_config(checkpoint_every=1000), meshes.make_mesh(1)
    results = train.run(Toy(config, mesh), config, mesh, tmp_path, (Maintained(),))
    assert saved(tmp_path) == [13, 30]  # the wish of step 11, which is known two steps later; the last
    whole = train.run(Toy(config, mesh), config, mesh, tmp_path / "whole")
    assert results["test_error"] == whole["test_error"]


@pytest.mark.slow
def test_a_notice_to_one_process_of_two_saves_both(server, tmp_path, monkeypatch):
    host = maintenance.metadata_host()
    monkeypatch.delenv("GCE_METADATA_HOST")
    pair = processes.two_of(["-m", "tests.slow_toy", str(tmp_path), "400", "1000"], GCE_METADATA_HOST=host)
    with contextlib.ExitStack() as ending:
        for process in pair:
            ending.callback(process.kill)
        wait_for(lambda: metrics.read(tmp_path / "metrics.jsonl"))
        assert not saved(tmp_path)
        server.event = EVENT
        told = [process.communicate(timeout=120)[1].decode() for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert [EVENT in text for text in told] == [False, True]
    [early, last] = saved(tmp_path)
    assert early < last == int(final_state(tmp_path)["step"]) == 400
