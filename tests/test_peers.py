"""Who is lost, and what is said of it: by a store of our own, and by processes that are really killed or frozen."""

import re
import signal
import threading
import time

import pytest

from jaxhw import metrics, peers
from jaxhw.peers import Peers
from tests import processes
from tests.toy import final_state
from tests.waiting import wait_for


class Store:
    """The key-value store of JAX's coordination service, without a network."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value, allow_overwrite):
        self.values[key] = value

    def key_value_dir_get(self, folder):
        return list(self.values.items())

    def wait_at_barrier(self, name, timeout):
        pass


@pytest.fixture
def ended(monkeypatch):
    """The exit codes of what would have ended the process; beats and silences of a tenth of a second."""
    codes = []
    for name, seconds in (("BEAT", 0.1), ("SILENCE", 1.5), ("GOODBYE", 0.3)):
        monkeypatch.setattr(peers, name, seconds)

    def end(code):
        codes.append(code)
        threading.Event().wait()  # that thread goes no further

    monkeypatch.setattr(peers.os, "_exit", end)
    return codes


def pair():
    store = Store()
    return [Peers(store, i, 2, None) for i in range(2)]


def test_those_who_beat_are_not_lost(ended):
    both = pair()
    time.sleep(3)
    for one in both:
        one.finish()
    assert not ended


def test_who_is_silent_is_named(ended, capsys):
    first, second = pair()
    second._closed.set()  # no beat any more
    wait_for(lambda: ended)
    told = capsys.readouterr().err
    assert ended == [peers.LOST] and told.count("\n") == 1
    assert "error: process 1 on " in told and "has not been heard of for 2 s (killed, frozen or cut off)" in told
    first._closed.set()


def test_who_fails_says_so_and_the_others_do_not_ask_to_be_started_again(ended, capsys):
    first, second = pair()
    threading.Thread(target=second.fail).start()
    wait_for(lambda: ended)
    assert ended == [2] and "process 1 on " in (told := capsys.readouterr().err) and "error of its own" in told
    first._closed.set()
    second._closed.set()


def lines(text):
    """What a process has said of the others."""
    return [line for line in text.decode().splitlines() if line.startswith("error:")]


def begun(workdir):
    """Returns when a run has saved itself for the first time."""
    wait_for(lambda: list((workdir / "checkpoints").glob("step_??")))


def lose(workdir, index, number):
    """(exit code, error lines) of a process whose fellow, of this index, gets a signal."""
    pair = processes.two_of(["-m", "tests.slow_toy", str(workdir)])
    try:
        begun(workdir)
        pair[index].send_signal(number)
        _, told = pair[1 - index].communicate(timeout=120)
    finally:  # they would train for ever
        for process in pair:
            process.kill()
            process.wait()
    assert "***" not in told.decode()  # the runtime's trace
    return pair[1 - index].returncode, lines(told)


def test_what_is_waited_for_adds_up_to_less_than_a_minute():
    """As launch/README.md promises; the processes below are not timed, since a loaded machine may take any time."""
    assert peers.BEAT + peers.SILENCE + peers.BEAT / 2 + peers.GOODBYE < 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "number", "message"),
    [
        (0, signal.SIGKILL, "process 0 on .* has ended"),
        (1, signal.SIGKILL, "process 1 on .* has not been heard of for 25 s"),
        (0, signal.SIGSTOP, "process 0 on .* has not been heard of for 25 s"),
        (1, signal.SIGSTOP, "process 1 on .* has not been heard of for 25 s"),
    ],
)
def test_the_other_ends_with_one_line(tmp_path, index, number, message):
    code, told = lose(tmp_path, index, number)
    assert code == peers.LOST and len(told) == 1
    assert re.match(f"error: {message}", told[0])
    assert not (tmp_path / "lock.json").exists() or index == 0  # who ends lets go of the workdir


@pytest.mark.slow
def test_an_error_of_one_process_is_its_own_line_and_the_other_names_it(tmp_path):
    pair = processes.two_of(["-m", "tests.slow_toy", str(tmp_path)], FAIL_AT="30")
    told = [process.communicate(timeout=120)[1] for process in pair]
    assert [process.returncode for process in pair] == [2, 2]
    assert lines(told[1]) == ["error: a picture is damaged"]
    assert len(lines(told[0])) == 1 and "has ended by an error of its own" in lines(told[0])[0]


@pytest.mark.slow
def test_sigterm_to_one_process_saves_both_and_the_run_goes_on(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for process in processes.two_of(["-m", "tests.slow_toy", str(whole), "120"]):
        process.communicate(timeout=120)
    pair = processes.two_of(["-m", "tests.slow_toy", str(stopped), "120"])
    begun(stopped)
    pair[1].send_signal(signal.SIGTERM)
    for process in pair:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert not (stopped / "results.json").exists()
    for process in processes.two_of(["-m", "tests.slow_toy", str(stopped), "120"]):
        process.communicate(timeout=120)
    assert metrics.results(stopped)["test_error"] == metrics.results(whole)["test_error"]
    one, other = final_state(stopped), final_state(whole)
    assert (one["params"]["w"] == other["params"]["w"]).all()
