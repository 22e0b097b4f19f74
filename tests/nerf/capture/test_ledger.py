"""Phases are done once, and again when what they depend on has changed."""

import pytest

from jaxhw.nerf.capture.ledger import Ledger, digest


def phases(folder, calls, keys, needs=()):
    ledger = Ledger(folder / "done.json")
    for name, key in keys.items():
        ledger.phase(name, key, lambda name=name: calls.append(name) or {"of": name}, needs)
    return ledger


def test_a_finished_phase_is_not_done_again(tmp_path, capsys):
    calls = []
    phases(tmp_path, calls, {"a": "1", "b": "1"})
    ledger = phases(tmp_path, calls, {"a": "1", "b": "2", "c": "1"})
    assert calls == ["a", "b", "b", "c"] and ledger.result("b") == {"of": "b"}
    assert "a: done before" in capsys.readouterr().err


def test_a_phase_is_done_again_where_its_files_are_gone(tmp_path):
    calls, file = [], tmp_path / "model"
    file.touch()
    phases(tmp_path, calls, {"a": "1"}, [file])
    phases(tmp_path, calls, {"a": "1"}, [file])
    assert calls == ["a"]
    file.unlink()
    phases(tmp_path, calls, {"a": "1"}, [file])
    assert calls == ["a", "a"]


def test_a_phase_that_was_cut_off_is_not_done(tmp_path):
    calls = []
    phases(tmp_path, calls, {"a": "1"})
    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path / "done.json").phase("a", "2", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    phases(tmp_path, calls, {"a": "1"})  # its files may be those of the phase that was cut off
    assert calls == ["a", "a"]


def test_a_damaged_record_is_told_and_all_is_done_again(tmp_path, capsys):
    calls = []
    phases(tmp_path, calls, {"a": "1"})
    (tmp_path / "done.json").write_text('{"a": {"key": 3}}')
    phases(tmp_path, calls, {"a": "1"})
    assert calls == ["a", "a"] and "all phases are done again" in capsys.readouterr().err


def test_a_digest_hangs_on_every_value():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
