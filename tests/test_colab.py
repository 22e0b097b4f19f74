"""The notebooks of colab/: text and .ipynb are one, without outputs, and their cells run, on tiny settings."""

import tomllib

import jupytext
import pytest

from tests import ports, processes

COLAB = processes.ROOT / "colab"
NAMES = ("self_supervised", "video_to_scene", "vit_resnet")
ADDRESS = tomllib.loads((processes.ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]

SMALL_VIT = '"--config.model.depth=1", "--config.model.width=16", "--config.model.mlp=16"'
TINY = {
    "self_supervised": """
RUNS, PRETRAINING, DATA, STEPS = "runs", "simclr", "digits", 3
MORE = ["--config.normalise=none"]
""",
    "vit_resnet": f"""
RUNS, DATA, STEPS = "runs", "digits", 3
MORE, ONLY_VIT = ["--config.normalise=none", "--config.batch_size=32"], [{SMALL_VIT}]
""",
    "video_to_scene": """
import atexit
atexit.register(lambda: viewer.terminate())  # in a notebook it stays
RUNS, VIDEO, FRAMES, STEPS, PORT = "runs", "", 3, 3, {port}
MORE = ["--config.steps=240", "--config.downscale=8", "--config.batch_size=512", "--config.lpips=none"]
""",
}


def test_these_are_the_notebooks():
    assert {path.name for path in COLAB.iterdir()} == {f"{name}.{ext}" for name in NAMES for ext in ("py", "ipynb")}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_its_text_without_outputs(name):
    text, notebook = (jupytext.read(COLAB / f"{name}.{ext}") for ext in ("py", "ipynb"))
    cells = lambda book: [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in book.cells]
    assert cells(text) == cells(notebook), f"run: jupytext --to ipynb colab/{name}.py"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.parametrize("name", NAMES)
def test_a_badge_opens_it_and_it_installs_from_the_same_address(name):
    place = ADDRESS.removeprefix("https://github.com/")
    badge = f"https://colab.research.google.com/github/{place}/blob/main/colab/{name}.ipynb"
    assert badge in (processes.ROOT / "README.md").read_text()
    assert f'REPO = "{ADDRESS}"' in (COLAB / f"{name}.py").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_on_tiny_settings(name, tmp_path):
    cells = [cell for cell in jupytext.read(COLAB / f"{name}.py").cells if cell.cell_type == "code"]
    settings = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    assert len(settings) == 1
    settings[0].source += TINY[name].format(port=ports.free_port())
    processes.run_script("\n".join(cell.source for cell in cells), tmp_path)
    assert list((tmp_path / "runs").glob("*/results.json"))
