"""What a process that dies while it writes leaves behind, and folders that cannot be made."""

import os
import signal
from pathlib import Path

import pytest

from jaxhw import files, metrics
from jaxhw.errors import UserError, disk_failure
from jaxhw.process import StopRequest


def die(self, target):
    """In the place of Path.replace: the text is written, but under its other name."""
    raise KeyboardInterrupt


def test_a_file_is_the_old_one_or_the_new(tmp_path, monkeypatch):
    files.write(tmp_path / "a.json", "old")
    files.write(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new" and len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a.json", "newer")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "new")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_process_leaves_no_half_file(tmp_path, number):
    with pytest.raises(SystemExit) as met, files.complete(tmp_path / "a.ply") as partial:
        partial.write_text("half")
        os.kill(os.getpid(), number)
    assert met.value.code == 128 + number and not list(tmp_path.iterdir())
    assert signal.getsignal(number) == signal.SIG_DFL


def test_whoever_listens_to_a_signal_hears_it_while_a_file_is_written(tmp_path):
    with StopRequest() as stop, files.complete(tmp_path / "a.ply") as partial:
        partial.write_text("whole")
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked and [path.name for path in tmp_path.iterdir()] == ["a.ply"]


def test_a_full_disk_names_the_file_and_leaves_no_half_of_it(tmp_path, monkeypatch):
    def fail(self, text, *args):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError) as met:
        files.write(tmp_path / "a.json", "text")
    assert disk_failure(met.value) == f"cannot write {tmp_path / 'a.json'}: No space left on device"
    assert not list(tmp_path.iterdir())


def test_a_kill_while_a_run_resumes_keeps_its_numbers(tmp_path, monkeypatch):
    text = '{"step": 5, "time": 1.0, "loss": 2.0}\n'
    (tmp_path / "metrics.jsonl").write_text(text)
    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        metrics.Writer(tmp_path, step=5)
    assert (tmp_path / "metrics.jsonl").read_text() == text


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    for _ in range(2):
        files.make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/x")):
        with pytest.raises(UserError, match=r"cannot make the folder .*: [A-Z].*; choose another --out"):
            files.make_folder(folder, "--out")
