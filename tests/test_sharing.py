"""Sweeps and studies that several processes share: nothing is done twice, and what a killed one had is gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import optuna
import pytest

from tests import processes


def start(kind, workdir):
    command = [sys.executable, "-m", "tests.sharing", kind, str(workdir)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(processes.ROOT)}
    return subprocess.Popen(command, cwd=processes.ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def share(kind, workdir, folders):
    """Two processes share the work and a third takes the place of the first, which is killed; what they printed."""
    killed, other = start(kind, workdir), start(kind, workdir)
    while not any(owner(path) == killed.pid and saved(path.parent) for path in workdir.glob(f"{folders}/lock.json")):
        assert killed.poll() is None and other.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    third = start(kind, workdir)
    told = [process.communicate(timeout=120)[0] for process in (killed, other, third)]
    assert (other.returncode, third.returncode) == (0, 0) and all("finished" in text for text in told[1:])
    return "".join(told)


def owner(path):
    try:
        return json.loads(path.read_text())["process"]
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def saved(folder):
    return list(folder.glob("checkpoints/step_*[0-9]"))


def steps(folder):
    """Those that stand in a run's metrics: a run that two had trained would have some twice."""
    return [
        line["step"] for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if "lr" in line
    ]


def assert_whole(folder):
    assert steps(folder) == list(range(5, 41, 5)) and (folder / "results.json").exists()
    assert not list(folder.glob("*.json.*")) and not (folder / "lock.json").exists()


@pytest.mark.slow
def test_a_sweep_s_trials_are_divided(tmp_path):
    told = share("sweep", tmp_path, "trials/*")
    trials = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path}/study.db").trials
    again = {trial.user_attrs["continues"] for trial in trials if "continues" in trial.user_attrs}
    assert Counter(t.state.name for t in trials) == {"COMPLETE": 8, "FAIL": 1} and len(again) == 1
    assert len({t.params["optim.lr"] for t in trials}) == 8
    finished = [line.split()[1] for line in told.splitlines() if line.startswith("trial ")]
    assert len(finished) == len(set(finished))
    folders = list((tmp_path / "trials").iterdir())
    assert len(folders) == 8
    for folder in (*folders, tmp_path / "winner"):
        assert_whole(folder)
    assert len((tmp_path / "table.md").read_text().splitlines()) == 10


@pytest.mark.slow
def test_a_study_s_runs_are_divided(tmp_path):
    told = share("study", tmp_path, "runs/*/*")
    begun = Counter(line for line in told.splitlines() if line.endswith(":"))
    assert sum(begun.values()) == 9 and len(begun) == 8, told  # that of the killed one was begun twice
    folders = [folder for run in (tmp_path / "runs").iterdir() for folder in run.iterdir()]
    assert len(folders) == 8
    for folder in folders:
        assert_whole(folder)
    assert (tmp_path / "table.md").read_text().count("2 seeds") == 4
