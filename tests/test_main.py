"""The command line as a user meets it: exit codes, one-line errors, signals and kill -9, in processes of their own."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxhw import main, train

ROOT = Path(__file__).resolve().parent.parent
ENV = {**os.environ, "XLA_FLAGS": ""}
SMALL = ["--config.model.width=16", "--config.model.depth=1", "--config.model.heads=2", "--config.model.mlp=16"]

SSL = ["--config=configs/simclr.py", "--workdir=/tmp/x", "--config.dataset=digits", "--config.model.stem=cifar"]


def command(*argv):
    return [sys.executable, "-m", "jaxhw", *map(str, argv)]


def call(*argv):
    return subprocess.run(command(*argv), capture_output=True, text=True, cwd=ROOT, env=ENV, timeout=300)


def train_flags(workdir, *more):
    return ["train", "--config=configs/vit.py:digits", f"--workdir={workdir}", *SMALL, *more]


def lines(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def losses(workdir):
    return {line["step"]: line["loss"] for line in lines(workdir) if "loss" in line}


def wait_for(condition, process):
    end = time.time() + 120
    while not condition():
        assert process.poll() is None and time.time() < end, process.communicate()
        time.sleep(0.01)


STEPS = ("--config.steps=60", "--config.log_every=5", "--config.checkpoint_every=7", "--config.eval_every=60")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("main") / "whole"
    done = call(*train_flags(workdir, *STEPS))
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_a_run_ends_with_its_numbers_and_where_they_lie(whole):
    workdir, printed = whole
    assert "test_accuracy 0." in printed and str(workdir / "results.json") in printed
    assert str(workdir / "curves.png") in printed
    assert list(losses(workdir)) == list(range(5, 61, 5))
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))


def test_sigterm_saves_and_the_same_command_continues(whole, tmp_path):
    workdir = tmp_path / "run"
    process = subprocess.Popen(command(*train_flags(workdir, *STEPS)), cwd=ROOT, env=ENV, stderr=subprocess.PIPE)
    wait_for(lambda: losses(workdir), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not (workdir / "results.json").exists()
    done = call(*train_flags(workdir, *STEPS))
    assert done.returncode == 0, done.stderr
    assert losses(workdir) == losses(whole[0])


@pytest.mark.slow
def test_kills_at_random_moments_lose_only_what_came_after_the_last_checkpoint(tmp_path):
    """Many of them within a checkpoint's writing; started again each time, and in the end left alone."""
    long = (*STEPS, "--config.steps=600")
    assert call(*train_flags(tmp_path / "whole", *long)).returncode == 0
    workdir, rng = tmp_path / "run", random.Random(0)
    start = lambda: subprocess.Popen(
        command(*train_flags(workdir, *long)), cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    writing = lambda: set(workdir.glob("checkpoints/*tmp*"))
    for _ in range(int(os.environ.get("JAXHW_KILLS", "8"))):
        before, left_behind, process = len(lines(workdir)), writing(), start()
        wait_for(lambda b=before, w=left_behind: writing() - w or len(lines(workdir)) > b + 2, process)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = start()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    assert losses(workdir) == losses(tmp_path / "whole") and len(losses(workdir)) == 120


def call_limited(blocks, *argv):
    """As `call`, where no file may grow past a number of blocks of 512 bytes; compiled programs are not kept."""
    limited = ["sh", "-c", f"trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"", "sh", *command(*argv)]
    env = {**ENV, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    return subprocess.run(limited, capture_output=True, text=True, cwd=ROOT, env=env, timeout=300)


def test_a_full_disk_is_one_line(tmp_path):
    """No file may grow past 60 KB: the numbers fit, a checkpoint does not. Beside that line stands the progress."""
    workdir = tmp_path / "run"
    done = call_limited(120, *train_flags(workdir, *STEPS, "--config.model.width=128"))
    assert done.returncode == 2 and not list((workdir / "checkpoints").glob("step_?"))
    told = [line for line in done.stderr.splitlines() if "images/s" not in line]
    assert len(told) == 1, done.stderr
    assert told[0].startswith(f"error: cannot write {workdir / 'checkpoints'}") and "File too large" in told[0]


def test_after_a_full_disk_the_same_command_continues(whole, tmp_path):
    """The checkpoint before the one that did not fit stays, and the run goes on from it as if nothing had been."""
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    (workdir / "results.json").unlink()
    shutil.rmtree(workdir / "checkpoints" / "step_60")
    done = call_limited(32, *train_flags(workdir, *STEPS))
    told = [line for line in done.stderr.splitlines() if "images/s" not in line]
    assert done.returncode == 2 and len(told) == 1, done.stderr
    assert told[0].startswith(f"error: cannot write {workdir / 'checkpoints'}"), told
    assert (workdir / "checkpoints" / "step_56").is_dir() and not (workdir / "checkpoints" / "step_60").exists()
    done = call(*train_flags(workdir, *STEPS))
    assert done.returncode == 0, done.stderr
    assert losses(workdir) == losses(whole[0]) and (workdir / "checkpoints" / "step_60").is_dir()


def test_the_checkpoint_writer_s_threads_print_no_tracebacks(monkeypatch):
    """They report that way that their event loop has closed; other reports are Python's own."""
    printed = []
    monkeypatch.setattr(sys, "__unraisablehook__", lambda failure: printed.append(str(failure.exc_value)))
    monkeypatch.setattr(sys, "unraisablehook", None)
    main.set_up()
    for text in ("Event loop is closed", "another"):
        sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(text)))
    assert printed == ["another"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train"], "no config given"),
        (["train", "--config=configs/vit.py:digits"], "no workdir given"),
        (["train", "--config=configs/vit.py:digit", "--workdir=/tmp/x"], "no variant 'digit'"),
        (
            ["train", "--config=configs/vit.py:digits", "--workdir=/tmp/x", "--config.sede=1"],
            "did you mean config.seed",
        ),
        (["train", "--config=configs/vit.py:digits", "--workdir=/tmp/x", "--config.batch_size=0"], "batch_size=0"),
        (
            ["train", "--config=configs/simclr.py", "--workdir=/tmp/x", "--config.method.name=dino"],
            "config.method.name='dino' must be one of simclr, ",
        ),
        (["train", *SSL, "--config.batch_size=4096"], "config.batch_size=4096: digits has only "),
        (
            ["train", "--config=configs/vit.py:digits", "--workdir=/tmp/x", "--config.init_from=torch:README.md"],
            "README.md is no zip archive",
        ),
        (["eval", "--workdir=/nowhere"], "is no workdir"),
        (["predict", "--workdir=/nowhere", "x.png"], "is no workdir"),
        (["compare", "/nowhere", "--out=/tmp/x"], "/nowhere"),
        (["frobnicate"], "invalid choice"),
        (["eval"], "required: --workdir"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(argv, message):
    done = call(*argv)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_eval_predict_and_params(whole, tmp_path):
    workdir, _ = whole
    done = call("eval", f"--workdir={workdir}", f"--out={tmp_path}")
    accuracy = json.loads((workdir / "results.json").read_text())["test_accuracy"]
    assert done.returncode == 0 and f"{accuracy:.4f}" in done.stdout and "359" in done.stdout, done.stderr
    assert (tmp_path / "test_confusion.png").exists()

    Image.fromarray(np.full((30, 20), 200, np.uint8)).save(tmp_path / "grey.png")
    done = call("predict", f"--workdir={workdir}", tmp_path / "grey.png")
    rows = done.stdout.splitlines()
    assert done.returncode == 0 and len(rows) == 6 and rows[0].endswith("grey.png"), done.stderr
    shares = [float(row.split("%")[0]) for row in rows[1:]]
    assert shares == sorted(shares, reverse=True) and {row.split()[-1] for row in rows[1:]} <= set("0123456789")

    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    done = call("predict", f"--workdir={workdir}", tmp_path / "torn.png")
    assert done.returncode == 2 and "torn.png" in done.stderr

    done = call("params", "--config=configs/vit.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["Total", "11139844"]
    done = call("params", "--config=configs/resnet18.py")
    assert done.stdout.splitlines()[-1].split() == ["Total", "11227812"]


def test_a_collapsed_run_has_exit_code_2_and_its_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(main, "set_up", lambda: None)
    monkeypatch.setattr(train, "run", lambda *_: {"loss": 0.25, "collapsed": True})
    assert main.main(["--config=configs/vit.py:digits", f"--workdir={tmp_path}", "--config.batch_size=64"]) == 2
    out, error = capsys.readouterr()
    assert "loss 0.25" in out and error.startswith(f"error: {tmp_path} has collapsed") and error.count("\n") == 1
