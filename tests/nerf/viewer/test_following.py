"""A workdir that a run writes into while it is viewed: newer checkpoints, half-written ones, none any more."""

import json
import shutil

import pytest

from jaxhw import polling
from jaxhw.errors import UserError
from jaxhw.nerf.viewer.following import Following, summary


class Page:
    """A viewer that remembers what it is given."""

    def __init__(self):
        self.runs, self.lines = [], []

    def update(self, run):
        self.runs.append(run)

    def tell(self, line, progress=None):
        self.lines.append((line, progress))


@pytest.fixture
def page(monkeypatch):
    monkeypatch.setattr(polling, "EVERY", 0.0)
    return Page()


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "run" / "checkpoints" / "step_10").mkdir(parents=True)
    lines = [{"step": 5, "time": 1.0, "psnr": 20.0}, {"step": 10, "time": 2.0, "val_psnr": 21.5}]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "run"


def test_a_newer_checkpoint_is_shown_once_and_progress_is_told(page, workdir):
    follow = Following(page, workdir, lambda: "newer", steps=40)
    follow.look()
    assert not page.runs and page.lines[-1] == ("shown: step 10; step 10  psnr 20  val_psnr 21.5", 0.25)
    (workdir / "checkpoints" / "step_20").mkdir()
    follow.look()
    follow.look()
    assert page.runs == ["newer"] and page.lines[-1][0].startswith("shown: step 20")


def test_a_checkpoint_that_is_being_written_does_not_count(page, workdir):
    follow = Following(page, workdir, lambda: "newer", steps=40)
    (workdir / "checkpoints" / "step_20.orbax-checkpoint-tmp").mkdir()
    follow.look()
    assert not page.runs


def test_one_that_cannot_be_read_is_told_and_the_older_stays(page, workdir, capsys):
    def fails():
        raise UserError("step_20 is damaged")

    follow = Following(page, workdir, fails, steps=40)
    (workdir / "checkpoints" / "step_20").mkdir()
    follow.look()
    assert not page.runs and page.lines[-1][0] == "step_20 is damaged"
    assert capsys.readouterr().err == "warning: step_20 is damaged\n"
    follow.look()
    assert "shown: step 10" in page.lines[-1][0]


def test_a_workdir_that_is_deleted_is_told_and_not_made_again(page, workdir):
    follow = Following(page, workdir, lambda: "newer", steps=40)
    shutil.rmtree(workdir)
    follow.look()
    assert "is not there any more" in page.lines[-1][0] and not workdir.exists()


def test_before_anything_is_logged():
    assert summary([]) == ("step 0", 0)
