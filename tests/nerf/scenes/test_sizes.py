"""Downscaling until the pictures fit, and the split that a scene gets where nobody chooses one."""

import numpy as np
import pytest

from jaxhw import claims
from jaxhw import config as configs
from jaxhw.errors import UserError
from jaxhw.nerf.scenes import scene as scenes
from jaxhw.nerf.scenes.sizes import Wanted
from jaxhw.nerf.scenes.splits import split_frames
from jaxhw.nerf.task import default_config
from tests.nerf import folders
from tests.nerf.folders import HEIGHT, WIDTH, N


def auto(sizes, max_pixels):
    return Wanted.checked("auto", max_pixels).downscale(np.array(sizes), [f"{i}.png" for i in range(len(sizes))])


@pytest.mark.parametrize(
    ("max_pixels", "factor"), [(2400, 1), (2399, 2), (600, 2), (599, 3), (250, 3), (249, 4), (145, 4), (7, 16)]
)
def test_auto_is_the_smallest_factor_that_fits(max_pixels, factor):
    """Pictures of 40 x 30 and 60 x 20 pixels: of a third, 13 x 10 and 20 x 6 are left."""
    found, lines = auto([(40, 30), (60, 20)], max_pixels)
    assert found == factor and len(lines) == 1 and f"downscale=auto is {factor}: " in lines[0]


def test_auto_that_leaves_nothing_is_one_line():
    with pytest.raises(UserError, match=r"config\.max_pixels=2 leaves nothing of 1\.png, which is 30 x 4 pixels"):
        auto([(40, 30), (30, 4)], 2)


@pytest.mark.parametrize(
    ("downscale", "max_pixels", "message"),
    [
        (0, 1, "config.downscale=0 must be a whole number of at least 1"),
        (1.5, 1, "config.downscale=1.5 must be a whole number"),
        ("half", 1, "config.downscale='half' must be a whole number of at least 1, or auto"),
        ("auto", 0, "config.max_pixels=0 must be a whole number of at least 1"),
    ],
)
def test_values_that_are_no_size(downscale, max_pixels, message):
    with pytest.raises(UserError, match=message):
        Wanted.checked(downscale, max_pixels)


def test_a_folder_is_loaded_as_large_as_fits_and_told_so(tmp_path, capsys):
    folder = str(folders.write_transforms(tmp_path))
    scene = scenes.load(folder, "auto", "every:8", max_pixels=N * WIDTH * HEIGHT // 4)
    assert scene.cameras.size.tolist() == [[WIDTH // 2, HEIGHT // 2]] * N
    lines = capsys.readouterr().err.strip().split("\n")
    assert sum("downscale=auto is 2: pictures of 8 x 6 pixels, 432 in all (at most max_pixels=432)" in x for x in lines)
    scenes.load(folder, 2, "every:8")
    assert "auto" not in capsys.readouterr().err


def test_the_demo_is_rendered_as_large_as_fits():
    assert scenes.load("demo", "auto", max_pixels=76 * 16**2).cameras.size.max() == 16


@pytest.mark.parametrize(("flag", "value"), [("", 1), ("auto", "auto"), ("2", 2)])
def test_the_command_line_takes_a_number_or_auto(tmp_path, flag, value):
    path = tmp_path / "c.py"
    path.write_text("from jaxhw.nerf.task import default_config\nget_config = lambda: default_config('vanilla')\n")
    config = configs.parse([f"--config={path}", *([f"--config.downscale={flag}"] if flag else [])])[0]
    assert config.downscale == value and type(config.downscale) is type(value)
    claims.claim(tmp_path / "run", config)
    assert configs.load(tmp_path / "run" / "config.json").downscale == value


def test_a_config_file_and_what_is_changed_in_it_takes_both():
    config = default_config("vanilla")
    config.downscale = "auto"
    config = configs.changed(config, {"downscale": 4})
    assert configs.changed(config, {"downscale": "auto"}).downscale == "auto" and config.downscale == 4
    assert configs.with_defaults(configs.changed(config, {"downscale": "auto"}), default_config("vanilla"), "c.json")


def test_a_workdir_from_before_max_pixels(tmp_path):
    config = default_config("vanilla").to_dict()
    config |= {"scene": str(folders.write_transforms(tmp_path / "scene")), "downscale": 2, "split": "every:8"}
    del config["max_pixels"]
    (tmp_path / "config.json").write_text(configs.dump(configs.ConfigDict(config)))
    scene = scenes.from_config(configs.load(tmp_path / "config.json"))
    assert scene.cameras.size.tolist() == [[WIDTH // 2, HEIGHT // 2]] * N


def test_auto_takes_the_formats_split_where_it_has_one():
    given = ["train", "test", "", "train"]
    auto, wanted = split_frames(given, "auto"), split_frames(given, "given")
    assert {k: v.tolist() for k, v in auto.items()} == {k: v.tolist() for k, v in wanted.items()}
    assert not split_frames(["train", "train"], "auto")["test"].size


@pytest.mark.parametrize("n", [2, 3, 5, 9, 10, 11, 50, 111])
def test_auto_is_else_nerfstudios_and_tests_one_picture_at_least(n):
    auto = split_frames([""] * n, "auto")
    assert sorted([*auto["train"], *auto["test"]]) == list(range(n)) and auto["test"].size >= 1
    if n > 10:
        assert auto["test"].tolist() == split_frames([""] * n, "fraction:0.9")["test"].tolist()
    with pytest.raises(UserError, match=r"config\.split must be auto, given"):
        split_frames([""] * n, "auto:2")
