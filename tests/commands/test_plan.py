"""`jaxhw plan`: what bad input says, and, where libtpu is installed, plans of small programs."""

import importlib.util

import jax
import numpy as np
import pytest

from jaxhw import __main__ as cli
from jaxhw.plan import compiling

DIGITS = ["--config=configs/vit.py:digits"]
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling.Cache.__init__, "__defaults__", (tmp_path / "plans",))
    yield
    jax.config.update("jax_enable_compilation_cache", True)


def plan(*arguments):
    return cli.main(["plan", *arguments])


def error(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("error:")]) == 1
    return lines[-1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--topology=v5e"], "--topology=v5e: no such slice; they are written v3:NxN, v4:NxNxN, v5e:NxN"),
        (["--topology=v5e:2x2x2"], "no such slice"),
        (["--topology=v9:2x2"], "no such slice"),
        (["--topology=v5e:2x4", "--batch=many"], "--batch='many' must be a whole number of at least 1"),
        (["--topology=v5e:2x4", "--batch=0"], "--batch=0 must be a whole number of at least 1"),
        (["--topology=v5e:2x4", "--images=-1"], "--images=-1 must be a whole number of at least 0"),
        (["--topology=v5e:2x4", "--figure=x.pdf"], "--figure=x.pdf: name the file FILE.png"),
        (["--topology=v5e:2x4", "--program=render", "--batch=8"], "a picture is rendered whole"),
        (["--topology=v5e:2x4", "--config.modle=3"], "the config has no key config.modle"),
    ],
)
def test_bad_input_is_one_line(capsys, flags, says):
    assert plan(*DIGITS, *flags) == 2
    assert says in error(capsys)


def test_without_libtpu_it_says_what_to_install(capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "libtpu" else found(name, *rest)
    )
    assert plan(*DIGITS, "--topology=v5e:2x4") == 2
    assert error(capsys).endswith("pip install 'jaxhw[tpu]'; it needs no TPU")


def test_data_that_are_not_here_are_asked_for(capsys, tmp_path):
    pytest.importorskip("libtpu", reason="libtpu is not installed")
    assert plan("--config=configs/dvgo.py", "--config.scene=nowhere", "--topology=v5e:2x2") == 2
    assert "the scene nowhere is not here: say --images=N and --size=PIXELS" in error(capsys)
    assert plan(*DIGITS, f"--config.dataset=folder:{tmp_path / 'none'}", "--topology=v5e:2x2") == 2
    assert "there is no such directory" in (line := error(capsys)) and "say --images=N, --classes=N and" in line


@needs_libtpu
@pytest.mark.parametrize("flags", [["--topology=v5e:3x5"], ["--topology=v5e:2x2", "--program=film"]])
def test_a_slice_or_program_that_does_not_exist_is_one_line(capsys, flags):
    assert plan(*DIGITS, *flags) == 2
    assert "no such" in error(capsys)


@needs_libtpu
def test_a_slice_must_divide_the_batch(capsys):
    assert plan(*DIGITS, "--topology=v5e:2x4", "--batch=60") == 2
    assert "config.batch_size=60 cannot be divided among 8 devices" in error(capsys)


@needs_libtpu
def test_devices_that_share_a_state_must_divide_the_slice(capsys):
    assert plan(*DIGITS, "--topology=v5e:2x4", "--config.mesh.fsdp=3") == 2
    assert "config.mesh.fsdp=3 does not divide the 8 devices" in error(capsys)


@needs_libtpu
def test_a_plan_counts_what_the_vit_of_the_digits_does(capsys, tmp_path):
    picture = tmp_path / "roof.png"
    assert plan(*DIGITS, "--topology=v5e:2x2", "--advise", f"--figure={picture}") == 0
    said = capsys.readouterr()
    assert "compiling train for v5e:2x2, batch 64" in said.err
    header, _, row = (line.split("|") for line in said.out.splitlines()[:3])
    cells = {name.strip(): cell.strip() for name, cell in zip(header, row, strict=True)}
    assert cells["fits"] == "yes" and cells["chips"] == "4" and cells["batch"] == "64"
    # The gradient is one sum over chips, of all parameters in float32.
    gradient = next(line for line in said.out.splitlines() if "all-reduce" in line)
    assert "vision/models" in gradient and picture.exists()
    # The second time nothing is compiled.
    assert plan(*DIGITS, "--topology=v5e:2x2") == 0
    assert "compiling" not in capsys.readouterr().err


@needs_libtpu
def test_a_program_that_cannot_fit_is_one_line(capsys):
    assert plan(*DIGITS, "--topology=v5e:2x2", "--batch=16777216", "--images=1000000", "--config.steps=100") == 2
    assert "it fits on none of them" in error(capsys)


@needs_libtpu
@pytest.mark.parametrize("config", ["simclr", "linear", "classify", "nerf"])
def test_tasks_are_made_for_devices_that_nobody_has(config):
    from jaxhw import config as configs
    from jaxhw import task
    from jaxhw.plan import program, topology

    small = ["--config.image_size=32", "--config.model.width=8", "--config.batch_size=16"]
    argv = {
        "simclr": ["--config=configs/simclr.py", *small],
        "linear": ["--config=configs/linear.py", *small],
        "classify": ["--config=configs/resnet18.py", *small],
        "nerf": ["--config=configs/dvgo.py:lego", "--config.model.coarse.voxels=4096", "--config.batch_size=64"],
    }[config]
    made, _ = configs.parse(argv, "task")
    mesh = topology.find("v5e:2x2").mesh
    blank = task.find(made.task).without_data(made, task.Sizes(images=64, classes=4, size=32))
    names = ("train", "render") if config == "nerf" else ("train", "eval")
    for name in names:
        lowered = program.lower(blank, mesh, name)
        assert "mhlo.num_partitions = 4" in lowered.lowered.as_text() and lowered.examples > 0
    assert all(device.platform == "cpu" for device in jax.devices()) and np.prod(mesh.shape["data"]) == 4
