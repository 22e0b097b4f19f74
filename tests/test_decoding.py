"""16-bit grey: which value is white, and the line on pictures that come out dark; in both wings and in commands."""

import re

import numpy as np
import pytest
from PIL import Image

from jaxhw import __main__ as cli
from jaxhw import errors, main
from jaxhw.decoding import Levels
from jaxhw.nerf.scenes import scene as scenes
from jaxhw.vision.data import datasets
from tests.nerf import folders

TINY = ["width=8", "depth=1", "heads=1", "head_dim=8", "mlp=8", "patch=4"]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(errors, "_said", set())


def grey(values):
    return Image.fromarray(np.asarray(values, np.uint16))


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
def test_white_becomes_255_and_black_0(white):
    values = np.asarray(Levels(white).to_8_bits(grey([[0, white // 2, white, 65535]])))
    assert values.tolist() == [[0, 127, 255, 255]]


@pytest.mark.parametrize(
    "highest, white, fitting", [(4095, 65535, 4095), (1000, 65535, 1023), (16383, 65535, 16383), (3, 65535, 255)]
)
def test_narrow_pictures_are_told(capsys, highest, white, fitting):
    levels = Levels(white)
    for top in (highest // 2, highest):
        levels.to_8_bits(grey([[0, top]]))
    levels.warn_if_narrow("folder:x")
    told = capsys.readouterr().err
    assert f"folder:x: 2 pictures of 16 bits use only the values up to {highest} of {white}" in told
    assert told.endswith(f"set config.white={fitting}\n") and len(told.splitlines()) == 1


@pytest.mark.parametrize("highest, white", [(0, 65535), (16384, 65535), (4095, 4095), (30, 255)])
def test_others_are_not_told(capsys, highest, white):
    levels = Levels(white)
    levels.to_8_bits(grey([[0, highest]]))
    levels.to_8_bits(Image.new("L", (2, 2), 9))
    levels.warn_if_narrow("folder:x")
    assert capsys.readouterr().err == "" and levels.count == 1


def write_set(folder):
    """Two classes of five 12-bit pictures in 16-bit files."""
    for label, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        for i in range(5):
            grey(np.full((8, 8), 4095 - 2000 * label - i)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize("limit", [None, 0])
def test_a_folder_in_memory_or_on_disk(tmp_path, limit):
    spec = f"folder:{write_set(tmp_path / 'set')}"
    for white, brightest in ((65535, 15), (4095, 255)):
        levels = Levels(white)
        images = datasets.load(spec, "train", memory_limit=limit, levels=levels)
        assert levels.count == 8 and levels.highest == 4095
        assert images.take(np.arange(8)).max() == brightest


def test_a_run_is_told_once_and_its_commands_read_as_it_did(tmp_path, capsys):
    """Training loads three splits and says one line; eval and predict take the run's white, or --white."""
    folder, workdir = write_set(tmp_path / "set"), tmp_path / "run"
    flags = [
        "--config=configs/vit.py:digits",
        f"--config.dataset=folder:{folder}",
        "--config.steps=1",
        "--config.optim.warmup_steps=0",
    ]
    flags += ["--config.batch_size=8", "--config.validation=0.25", *(f"--config.model.{value}" for value in TINY)]
    assert main.main([*flags, f"--workdir={workdir}"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "16 bits" in line]
    assert len(told) == 1 and "10 pictures" in told[0] and told[0].endswith("set config.white=4095")

    errors._said.clear()
    assert main.main([*flags, f"--workdir={tmp_path / 'white'}", "--config.white=4095"]) == 0
    assert cli.main(["eval", f"--workdir={tmp_path / 'white'}"]) == 0
    picture = str(folder / "a" / "0.png")
    assert cli.main(["predict", f"--workdir={tmp_path / 'white'}", picture]) == 0
    assert "16 bits" not in capsys.readouterr().err
    assert cli.main(["predict", f"--workdir={workdir}", picture]) == 0
    assert "1 picture of 16 bits uses" in (told := capsys.readouterr().err) and told.endswith("set --white=4095\n")
    errors._said.clear()
    assert cli.main(["predict", f"--workdir={workdir}", "--white=4095", picture]) == 0
    assert "16 bits" not in capsys.readouterr().err
    assert cli.main(["eval", f"--workdir={workdir}", "--white=7"]) == 2
    assert capsys.readouterr().err == "error: --white=7 must be a whole number from 255 to 65535\n"


def test_a_scene(tmp_path, capsys):
    content = folders.transforms()
    (tmp_path / "images").mkdir()
    for i, entry in enumerate(content["frames"]):
        grey(np.full((folders.HEIGHT, folders.WIDTH), 4095)).save(tmp_path / "images" / f"{i:03d}.png")
        entry["file_path"] = f"images/{i:03d}.png"
    folders.write_json(tmp_path / "transforms.json", content)
    assert scenes.load(str(tmp_path), split="every:8").pictures.table.max() == 15
    told = [line for line in capsys.readouterr().err.splitlines() if "16 bits" in line]
    assert len(told) == 1 and re.search(r"9 pictures of 16 bits .* set config.white=4095$", told[0])
    assert scenes.load(str(tmp_path), split="every:8", white=4095).pictures.table.min() == 255
    assert "16 bits" not in capsys.readouterr().err
    with pytest.raises(errors.UserError, match=r"config.white=100 must be a whole number from 255 to 65535"):
        scenes.load(str(tmp_path), white=100)
