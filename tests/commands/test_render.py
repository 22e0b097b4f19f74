"""What the command refuses, in one line; that both videos are written as their frames come."""

import json
import types

import mediapy
import numpy as np
import pytest

from jaxhw.__main__ import main
from jaxhw.errors import UserError
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.scenes import saved
from tests.nerf import demo_surface
from tests.nerf.fields.dvgo.made import ring


@pytest.mark.parametrize("option", ["--scale=nan", "--scale=inf", "--scale=0", "--fps=0", "--fps=-1", "--fps=nan"])
def test_numbers_that_make_no_video(tmp_path, capsys, option):
    assert main(["render", f"--workdir={tmp_path}", option]) == 2
    name, value = option[2:].split("=")
    assert capsys.readouterr().err == f"error: --{name}={float(value)} must be a number above 0\n"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"cameras": {"pose": "x"}}', '{"cameras": 3}', "7"])
def test_a_damaged_scene(tmp_path, text):
    path = tmp_path / "scene.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"scene.json is damaged .* writes it anew"):
        saved.read(path)


@pytest.fixture
def run(monkeypatch):
    """A trained run that shows grey pictures of 16 x 12 pixels."""
    cameras = ring(n=6).resized((16, 12))

    def renderer(variables, camera):
        shape = camera.height, camera.width
        return Rendered(np.full((*shape, 3), 0.5), np.ones(shape), np.ones(shape))

    scene = types.SimpleNamespace(cameras=cameras, split={"train": np.arange(6)}, to_capture=np.eye(4))
    opened = Run(config=None, scene=scene, field=None, variables=None, renderer=renderer, cameras=cameras)
    monkeypatch.setattr(Run, "open", lambda *a: opened)


def test_both_videos_have_all_frames(run, tmp_path, capsys):
    assert main(["render", "--workdir=none", f"--out={tmp_path}", "--frames=3", "--scale=2"]) == 0
    for name in ("orbit", "orbit_depth"):
        assert mediapy.read_video(tmp_path / f"{name}.mp4").shape == (3, 24, 32, 3)


@pytest.mark.parametrize("option", ["--scale=1000", "--path=PATH"])
def test_pictures_beyond_the_formats_limit(run, tmp_path, capsys, option):
    stop = {"camera_to_world": np.eye(4).tolist(), "fov": 50}
    content = {"camera_type": "perspective", "render_width": 10**6, "render_height": 16, "camera_path": [stop]}
    (tmp_path / "path.json").write_text(json.dumps(content))
    option = option.replace("PATH", str(tmp_path / "path.json"))
    assert main(["render", "--workdir=none", f"--out={tmp_path / 'out'}", option]) == 2
    assert "pixels are too large" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_video_of_the_observers(monkeypatch, tmp_path):
    monkeypatch.setattr(Run, "open", lambda *a: demo_surface.run())
    assert main(["render", "--workdir=none", f"--out={tmp_path}", "--frames=2", "--uncertainty"]) == 0
    for name in ("orbit", "orbit_depth", "orbit_uncertainty"):
        assert mediapy.read_video(tmp_path / f"{name}.mp4").shape == (2, 32, 32, 3)
