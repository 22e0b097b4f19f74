"""Terminals that are closed, readers that have gone, logs in the place of terminals."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from jaxhw import errors, streams
from tests.test_train import run, without_clock

PROGRAM = """
import fcntl, signal, sys, termios, time
from pathlib import Path
if "own" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the terminal becomes this session's
from jaxhw import errors, train
from jaxhw import mesh as meshes
from tests.toy import Toy, toy_config
class Slow(Toy):
    def batch(self, step):
        time.sleep(0.5 if "own" in sys.argv and step > 8 else 0.03)  # it must still run when its terminal goes
        return super().batch(step)
config, mesh = toy_config(), meshes.make_mesh(1)
sys.exit(errors.exit_code(lambda: train.run(Slow(config, mesh), config, mesh, Path(sys.argv[1])) and None))
"""


def start(workdir, *words, prefix=(), **options):
    return subprocess.Popen([*prefix, sys.executable, "-c", PROGRAM, workdir, *words], **options)


def wait_for_lines(workdir, process):
    while not (workdir / "metrics.jsonl").exists() or len((workdir / "metrics.jsonl").read_bytes()) < 50:
        assert process.poll() is None
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))[1]


def lines(workdir):
    return without_clock([json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()])


def test_a_closed_terminal_saves_and_the_same_command_continues(whole, tmp_path):
    """A real one: the kernel sends SIGHUP, and whatever is written to it fails from then on."""
    ours, theirs = pty.openpty()
    process = start(tmp_path, "own", start_new_session=True, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    wait_for_lines(tmp_path, process)
    os.close(ours)
    assert process.wait(60) == 0
    assert list((tmp_path / "checkpoints").iterdir()) and not (tmp_path / "results.json").exists()
    assert without_clock(run(tmp_path)[1]) == without_clock(whole)


def test_hangups_are_ignored_under_nohup(whole, tmp_path):
    process = start(tmp_path, prefix=["nohup"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_lines(tmp_path, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert (tmp_path / "results.json").exists() and lines(tmp_path) == without_clock(whole)


@pytest.mark.parametrize("streams", ["gone", "never there"])
def test_a_run_whose_output_nobody_reads_goes_on(whole, tmp_path, streams):
    if streams == "gone":
        process = start(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        process.stderr.close()
    else:
        process = start(tmp_path, prefix=["sh", "-c", 'exec "$@" >&- 2>&-', "sh"])
    assert process.wait(60) == 0
    assert (tmp_path / "results.json").exists() and lines(tmp_path) == without_clock(whole)


def test_a_log_gets_few_lines(tmp_path):
    """One for the bar of a run of seconds, and one for each evaluation; no carriage returns."""
    process = start(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, told = (text.decode() for text in process.communicate(timeout=60))
    assert process.returncode == 0 and "\r" not in told + out
    assert len(told.splitlines()) == 1 and "240/240" in told and "rows/s, loss=" in told
    assert len(out.splitlines()) == 9  # the first step, eight evaluations


def test_a_meter_tells_every_half_minute(capsys, monkeypatch):
    clock = iter(range(0, 10_000, 7))
    monkeypatch.setattr(streams.time, "monotonic", lambda: next(clock))
    assert list(streams.bar(range(20), "reading", 20, unit=" pictures")) == list(range(20))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4 and all(line.startswith("reading: ") for line in told)


def test_what_an_encoding_lacks_is_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    assert errors.exit_code(lambda: print("\u732b \udce9")) == 0
    assert raw.getvalue() == b"\\u732b \\udce9\n"


def test_a_failing_stream_fails_nobody_and_comes_back(capsys):
    before = sys.stdout, sys.stderr
    with streams.lasting():
        print("out")
        print("err", file=sys.stderr)
        assert streams.is_terminal() is False and sys.stdout.encoding
    assert (sys.stdout, sys.stderr) == before and capsys.readouterr() == ("out\n", "err\n")
    full = streams.Lasting(open("/dev/full", "w"))  # noqa: SIM115  left open: its end would flush, and fail, once more
    print("x", file=full, flush=True)
