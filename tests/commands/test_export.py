"""What the command writes of a scene, in which frame, and what it refuses in one line."""

import itertools
import json

import numpy as np
import pytest
import trimesh
from PIL import Image

from jaxhw.__main__ import main
from jaxhw.nerf.results import depths
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.scenes.formats import transforms
from tests.nerf import demo_surface

CAPTURE = np.array([[0, -3.0, 0, 5], [3, 0, 0, -1], [0, 0, 3, 2], [0, 0, 0, 1]])  # metres, say: three a unit


@pytest.fixture
def run(monkeypatch):
    opened = demo_surface.run(to_capture=CAPTURE)
    monkeypatch.setattr(Run, "open", lambda *a: opened)
    return opened


def export(tmp_path, what, *options):
    assert main(["export", f"--workdir={tmp_path}", f"--what={what}", *options]) == 0


def to_training(points):
    return (points - CAPTURE[:3, 3]) @ CAPTURE[:3, :3] / 9


@pytest.mark.parametrize("frame", ["capture", "training"])
def test_points_and_meshes_are_in_the_frame_that_is_asked_for(run, tmp_path, capsys, frame):
    back = to_training if frame == "capture" else np.asarray
    chosen = [] if frame == "capture" else ["--frame=training"]
    export(tmp_path, "points", "--count=2000", "--uncertainty", *chosen)
    cloud = trimesh.load(tmp_path / "points.ply")
    assert np.median(np.abs(demo_surface.distance(back(cloud.vertices)))) < 1e-3
    assert "observers" in cloud.metadata["_ply_raw"]["vertex"]["data"].dtype.names
    export(tmp_path, "mesh", "--resolution=48", "--faces=2000", f"--out={tmp_path / 'deep' / 'mesh.glb'}", *chosen)
    mesh = trimesh.load(tmp_path / "deep" / "mesh.glb", force="mesh")
    assert np.abs(demo_surface.distance(back(mesh.vertices))).mean() < 2.6 / 48 and len(mesh.faces) <= 2000
    said = capsys.readouterr().out
    assert "points in" in said and "2,000 triangles in" in said


def test_depth(run, tmp_path):
    export(tmp_path, "depth", f"--out={tmp_path / 'out'}")
    found = json.loads((tmp_path / "out" / "depth.json").read_text())
    assert found["pictures"]["3.png"] == "view/3.jpg" and len(found["pictures"]) == len(run.cameras)
    steps = np.asarray(Image.open(tmp_path / "out" / "3.png"))
    assert steps.dtype == np.uint16 and steps.shape == (32, 32)
    exact = np.load(tmp_path / "out" / "3.npz")
    np.testing.assert_allclose(steps * found["scale"], exact["depth"], atol=found["scale"])
    # In the capture's scale, along the optical axis: with the pixel it gives a point of the surface back.
    y, x = np.argwhere(exact["opacity"] > 0.5)[::20].T
    z, camera = exact["depth"][y, x] / 3, run.cameras[3]
    local = np.stack([(x + 0.5 - 16) / camera.focal[0] * z, (y + 0.5 - 16) / camera.focal[1] * z, z], 1)
    at = local @ camera.pose[:, :3].T + camera.pose[:, 3]
    assert np.abs(demo_surface.distance(at)).max() < 1e-3 and (exact["depth"][exact["opacity"] == 0] == 0).all()


def test_depth_that_is_interrupted_has_its_scale(run, tmp_path, monkeypatch):
    render, calls = Run.render, itertools.count()

    def interrupted(self, camera):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return render(self, camera)

    monkeypatch.setattr(Run, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        depths.write(tmp_path / "out", run)
    found = json.loads((tmp_path / "out" / "depth.json").read_text())
    there = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert there == ["0.npz", "0.png", "1.npz", "1.png", "depth.json"]
    steps, exact = np.asarray(Image.open(tmp_path / "out" / "1.png")), np.load(tmp_path / "out" / "1.npz")["depth"]
    np.testing.assert_allclose(steps * found["scale"], exact, atol=found["scale"])


def test_cameras_in_both_frames(run, tmp_path):
    for frame, scale in (("capture", 3), ("training", 1)):
        export(tmp_path, "cameras", f"--frame={frame}", f"--out={tmp_path / frame}")
        matrix = json.loads((tmp_path / frame / transforms.FILE).read_text())["frames"][5]["transform_matrix"]
        wanted = CAPTURE @ [*run.cameras.pose[5, :, 3], 1] if frame == "capture" else [*run.cameras.pose[5, :, 3], 1]
        np.testing.assert_allclose(np.array(matrix)[:, 3], wanted, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--what=points", "--out=x.obj"], "--out=x.obj: name the file FILE.ply or FILE.npz"),
        (["--what=mesh", "--out=x.stl"], "--out=x.stl: name the file FILE.ply or FILE.obj or FILE.glb"),
        (["--what=mesh", "--texture=64"], "mesh.ply: a .ply has no texture; name the file FILE.obj or FILE.glb"),
        (["--what=mesh", "--count=5"], "--count is for --what=points"),
        (["--frame=training"], "--frame is for --what=points or mesh or cameras or depth"),
        (["--what=points", "--faces=5"], "--faces is for --what=mesh"),
        (["--what=points", "--count=0"], "--count=0 must be a whole number of at least 1"),
        (["--what=mesh", "--resolution=1"], "--resolution=1 must be a whole number of at least 8"),
        (["--what=cloud"], "invalid choice: 'cloud'"),
    ],
)
def test_what_is_refused(tmp_path, capsys, options, line):
    assert main(["export", f"--workdir={tmp_path}", *options]) == 2
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["export", f"--workdir={tmp_path}", "--what=points", f"--out={tmp_path / 'file' / 'x.ply'}"]) == 2
    assert "cannot make the folder" in capsys.readouterr().err
