"""Who owns a workdir: living processes here and elsewhere, and what dead ones leave behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from jaxhw import lock, train
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from tests.test_train import run, without_clock
from tests.toy import Toy, toy_config


@pytest.fixture
def sleeper():
    """A living process that is not this one."""
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def leave(folder, age=0.0, name="lock.json", text=None, **owner):
    """A lock as another process left it, so many seconds ago."""
    folder.mkdir(exist_ok=True)
    owner = lock._me() | {"process": 1, "began": "5", "since": "2026-01-02 03:04:05"} | owner
    path = folder / name
    path.write_text(json.dumps(owner) if text is None else text)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_lock_names_its_owner_and_goes_with_it(tmp_path):
    with lock.held(tmp_path / "run"):
        told = json.loads((tmp_path / "run" / "lock.json").read_text())
        assert told["process"] == os.getpid() and told["host"] == socket.gethostname()
        with lock.held(tmp_path / "run" / ".." / "run"):  # it may take what it has
            pass
        assert (tmp_path / "run" / "lock.json").exists()
    assert not list((tmp_path / "run").iterdir())
    with pytest.raises(ZeroDivisionError), lock.held(tmp_path):
        _ = 1 / 0
    assert not (tmp_path / "lock.json").exists()


def test_a_living_process_is_respected(tmp_path, sleeper):
    leave(tmp_path, age=1e6, process=sleeper, began=lock._began(sleeper))
    with pytest.raises(UserError, match=rf"is in use by process {sleeper} on .* since 2026-01-02 .*: wait for its end"):
        run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock.json"]


@pytest.mark.parametrize(
    "owner",
    [{"process": 2**22 + 5}, {"began": "5"}, {"process": os.getpid()}, {"process": 2**62}, {"process": "x"}],
    ids=["dead", "its number is another's", "its number is ours", "no number", "text"],
)
def test_a_dead_process_holds_nobody_up(tmp_path, sleeper, owner):
    leave(tmp_path, **({"process": sleeper} | owner))
    with lock.held(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["process"] == os.getpid()


def test_a_killed_process_counts_as_dead_before_its_parent_has_noticed(tmp_path):
    process = subprocess.Popen(["sleep", "60"])
    leave(tmp_path, process=process.pid, began=lock._began(process.pid))
    with pytest.raises(UserError, match="is in use by process"), lock.held(tmp_path):
        pass
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and stays in the list of processes
    with lock.held(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["process"] == os.getpid()
    process.wait()


@pytest.mark.parametrize("text", [None, "", "null", "[", '{"host": []}'])
def test_what_is_on_another_host_counts_while_it_shows_life(tmp_path, text):
    """And a lock that cannot be read may be one being written."""
    path = leave(tmp_path, age=20, text=text, namespace="pid:[another container's]")
    seen = r": it was seen 20 s ago: if it is dead, try again in 100 s or delete .*lock\.json$"
    with pytest.raises(UserError, match=seen.replace(": it", "; it")) as caught, lock.held(tmp_path):
        pass
    assert "\n" not in str(caught.value)
    os.utime(path, (time.time() - 130,) * 2)
    with lock.held(tmp_path):
        assert json.loads(path.read_text())["process"] == os.getpid()


def look_closely(monkeypatch):
    """Signs of life and silence in tenths of a second."""
    for name, seconds in (("LOOK", 0.05), ("RENEWED", 0.2), ("STALE", 1.0)):
        monkeypatch.setattr(lock, name, seconds)


def test_a_run_that_comes_back_on_another_host_waits_until_its_former_self_counts_as_dead(
    tmp_path, monkeypatch, capsys
):
    look_closely(monkeypatch)
    leave(tmp_path, host="node7")
    run(tmp_path)
    told = capsys.readouterr().err
    assert f"{tmp_path} belongs to process 1 on node7, seen 0 s ago: waiting up to 1 s for a sign of life\n" in told
    assert (tmp_path / "results.json").exists()


def test_who_shows_life_is_not_waited_for(tmp_path, monkeypatch):
    look_closely(monkeypatch)
    monkeypatch.setattr(lock, "STALE", 60.0)
    path = leave(tmp_path, host="node7")
    threading.Timer(0.5, os.utime, (path,)).start()
    began = time.monotonic()
    with pytest.raises(lock.InUse, match="is in use by process 1 on node7"), lock.held(tmp_path, patient=True):
        pass
    assert time.monotonic() - began < 30


def test_a_dead_lock_that_a_quicker_process_has_replaced_stays(tmp_path):
    path = leave(tmp_path, host="node7")
    lock._remove(path, {"process": 1, "host": "node8"})
    assert json.loads(path.read_text())["host"] == "node7" and len(list(tmp_path.iterdir())) == 1
    lock._remove(path, lock._read(path))
    lock._remove(path, {})  # another has removed it
    assert not list(tmp_path.iterdir())


def test_a_turn_is_waited_for_and_a_dead_process_s_is_taken(tmp_path, sleeper):
    path = leave(tmp_path, name="turn.json", process=sleeper, began=lock._began(sleeper))
    threading.Timer(0.5, os.kill, (sleeper, signal.SIGKILL)).start()
    with lock.turn(tmp_path):
        assert not lock._runs({"process": sleeper}) and json.loads(path.read_text())["process"] == os.getpid()
    assert not path.exists()


def test_whether_another_owns_a_folder_can_be_asked(tmp_path, sleeper):
    assert not lock.in_use(tmp_path)
    with lock.held(tmp_path):
        assert not lock.in_use(tmp_path)
    leave(tmp_path)
    assert not lock.in_use(tmp_path)
    leave(tmp_path, process=sleeper, began=lock._began(sleeper))
    assert lock.in_use(tmp_path)


def test_a_lock_that_cannot_be_written_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_me", lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"), lock.held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_an_owner_shows_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "RENEWED", 0.01)
    with lock.held(tmp_path):
        os.utime(tmp_path / "lock.json", (0, 0))
        time.sleep(0.3)
        assert time.time() - (tmp_path / "lock.json").stat().st_mtime < 10


def test_a_lock_that_was_taken_over_is_the_other_s(tmp_path):
    with lock.held(tmp_path):
        leave(tmp_path, process=5, host="elsewhere")
    assert (tmp_path / "lock.json").exists()


PROGRAM = """
import sys
from pathlib import Path
from jaxhw import errors, train
from jaxhw import mesh as meshes
from tests.toy import Toy, toy_config
class Slow(Toy):
    def batch(self, step):
        import time
        time.sleep(0.05 if step < 9 else 5)
        return super().batch(step)
config, mesh = toy_config(), meshes.make_mesh(1)
sys.exit(errors.exit_code(lambda: train.run(Slow(config, mesh), config, mesh, Path(sys.argv[1]))))
"""


def start(workdir):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, workdir], stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def test_the_same_command_twice_and_a_kill(tmp_path):
    """The second ends in one line; after kill -9 of the first the same command goes on, and no line is lost."""
    workdir = tmp_path / "run"
    first = start(workdir)
    while not (workdir / "metrics.jsonl").exists() or len((workdir / "metrics.jsonl").read_bytes()) < 50:
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    second = start(workdir)
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 2, errors
    assert len(errors.splitlines()) == 1 and f"in use by process {first.pid} on".encode() in errors
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (workdir / "lock.json").exists()
    _, lines = run(workdir)
    assert not (workdir / "lock.json").exists()
    assert without_clock(lines) == without_clock(run(tmp_path / "undisturbed")[1])


def test_a_finished_run_has_no_owner(tmp_path, monkeypatch):
    """Its numbers can be asked for also where nothing can be written."""
    config, mesh = toy_config(), meshes.make_mesh(1)
    results, _ = run(tmp_path)
    monkeypatch.setattr(lock, "_take", lambda path, flag: 1 / 0)
    assert train.run(Toy(config, mesh), config, mesh, tmp_path) == results
