"""The wheel: all files of the package and the configs are in it, and it runs from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.processes import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    for needed in ("build", "hatchling"):
        pytest.importorskip(needed, reason=f"{needed} makes the wheel: pip install -e '.[dev]'")
    out = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--wheel", f"--outdir={out}"], ROOT)
    [made] = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory):
    """The folder of `jaxhw` and `python` where the wheel is installed; what it needs is this environment's."""
    place = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "venv", "--without-pip", str(place)], place)
    [packages] = place.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    python = place / "bin" / "python"
    run([sys.executable, "-m", "pip", f"--python={python}", "install", "--no-deps", "--no-index", str(wheel)], place)
    return python.parent


def run(words: list, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def test_it_holds_the_package_and_the_configs_and_nothing_else(wheel):
    expected = {f"jaxhw/{name}" for name in files(ROOT / "jaxhw")}
    expected |= {f"jaxhw/shipped/configs/{name}" for name in files(ROOT / "configs")}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected


def test_it_runs_from_an_empty_folder(commands, tmp_path):
    assert str(ROOT) not in run([commands / "python", "-c", "import jaxhw; print(jaxhw.__file__)"], tmp_path)
    for name in ("view", "capture", "plan"):
        assert "--" in run([commands / "jaxhw", name, "--help"], tmp_path)
    tiny = ("--config.steps=20", "--config.optim.warmup_steps=0", "--config.model.depth=1")
    run([commands / "python", "-m", "jaxhw.main", "--config=vit:digits", "--workdir=x", *tiny], tmp_path)
    assert "test_images" in run([commands / "jaxhw", "eval", "--workdir=x"], tmp_path)
    # a config that imports another one of the package's
    assert "--config" in run([commands / "jaxhw", "params", "--help"], tmp_path)
    assert "fc.weight" in run([commands / "jaxhw", "params", "--config=finetune", "--config.dataset=digits"], tmp_path)
