"""Half a minute of damaged files, of a seed that is the same every time; `python -m tests.fuzz.fuzz` runs longer."""

import random

import pytest

from tests.fuzz import fuzz


@pytest.mark.slow
def test_damaged_files_are_loaded_or_refused_in_one_line(tmp_path):
    report = fuzz.run(30, 0, tmp_path)
    print(report)
    assert not report.faults, "\n".join(report.faults)
    assert report.files > 100 and report.loaded and report.refused > 10


def test_the_same_seed_damages_the_same_way():
    sound = b'{"a": [1, 2, {"b": 3}], "c": "text"}' * 3
    tries = [[fuzz.damaged(sound, random.Random(seed)) for seed in range(50)] for _ in range(2)]
    assert tries[0] == tries[1] and len(set(tries[0])) > 40


def test_a_reader_that_fails_is_a_fault(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"sound")
    fails = fuzz.targets.Target(tmp_path / "file", lambda: 1 / 0)
    monkeypatch.setattr(fuzz.targets, "write", lambda folder: [fails])
    report = fuzz.run(0.05, 0, tmp_path)
    assert report.files and len(report.faults) == report.files and "ZeroDivisionError" in report.faults[0]
    assert (tmp_path / "file").read_bytes() == b"sound"
