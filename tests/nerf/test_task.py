"""The whole run of a tiny scene through the loop: stages, exact resume, artefacts, one-line errors."""

import json

import jax
import mediapy
import numpy as np
import pytest
from PIL import Image

from jaxhw import checkpoint, metrics, train
from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.__main__ import main
from jaxhw.errors import UserError
from jaxhw.nerf.results.names import file_names
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.scenes.pictures import over
from jaxhw.nerf.task import Nerf, default_config
from tests.nerf import folders
from tests.nerf.running import Stopping, trained


def tiny(**changes):
    """16 pixels, 10^3 and 16^3 voxels; 12 coarse steps, so a density that starts high."""
    config = default_config("dvgo")
    config.update({"scene": "demo", "downscale": 16, "batch_size": 128, "steps": 30, "log_every": 5, "eval_every": 3})
    config.update({"eval_all_every": 12, "checkpoint_every": 100, "lpips": "none"})
    config.optim.update(
        {"name": "masked_adam", "lr": 5e-3, "b2": 0.99, "groups": (("density", 100.0), ("features", 100.0))}
    )
    config.model.update({"coarse_steps": 12, "grow_at": (6,), "tighten_every": 8, "channels": 3, "widths": (8,)})
    config.model.coarse.update(
        {"voxels": 10**3, "stride": 1.0, "alpha": 1e-2, "samples": 20.0, "shaded": 20.0, "blocks": 4.0}
    )
    config.model.fine.update({"voxels": 16**3, "samples": 40.0, "shaded": 40.0, "blocks": 8.0})
    config.update(changes)
    return config.lock()


def run(workdir, kind=Nerf, **changes):
    return trained(workdir, tiny(**changes), kind)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, *run(workdir)


def test_a_run_goes_through_its_stages_and_learns(whole):
    workdir, _, lines = whole
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] and np.isfinite(losses).all()
    evaluated = [line["step"] for line in lines if "val_psnr" in line or "val_psnr_all" in line]
    assert evaluated == list(range(3, 31, 3))
    assert [line["step"] for line in lines if "val_psnr_all" in line] == [12, 24]
    saved = json.loads((workdir / "results.json").read_text())
    assert saved["test_images"] == 12 == len(saved["test_scores"]) and 5 < saved["test_psnr"] < 50
    assert saved["test_psnr"] == pytest.approx(np.mean([s["psnr"] for s in saved["test_scores"].values()]))
    left_out = [line["overflow"] for line in lines if "overflow" in line]
    assert saved["left_out_rays"] == pytest.approx(np.mean(left_out)) and len(left_out) == 6
    assert (workdir / "curves.png").exists() and len(list((workdir / "test").glob("*.png"))) == 12


@pytest.mark.parametrize("at", [6, 12, 15, 18, 27])  # coarse, its end, fine, the end before it doubles, doubled
def test_a_run_stopped_in_any_stage_continues_bit_for_bit(whole, tmp_path, at):
    results, _ = run(tmp_path, type("Stop", (Stopping,), {"at": at}))
    assert results == {}
    again, lines = run(tmp_path)
    assert lines == whole[2]
    assert again["test_scores"] == whole[1]["test_scores"]
    states = [checkpoint.restore_variables(w, meshes.replicated(meshes.make_mesh(1))) for w in (tmp_path, whole[0])]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_grids_in_parts_on_a_mesh_of_two_axes_are_learnt_and_rendered_alike(tmp_path):
    """Through all stages, of which each divides what it can of its own grids."""
    found = []
    for name, mesh, layout in (("one", meshes.make_mesh(2), ()), ("two", meshes.make_mesh(1, fsdp=2), (("*", 0),))):
        config = tiny(mesh={"layout": layout}, steps=24, eval_every=100, eval_all_every=0)
        results = train.run(Nerf(config, mesh), config, mesh, tmp_path / name)
        losses = [line["loss"] for line in metrics.read(tmp_path / name / "metrics.jsonl") if "loss" in line]
        found.append([*losses, results["test_psnr"]])
    assert len(found[0]) > 4
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_averaged_weights_are_evaluated_with_the_masks_of_now(tmp_path):
    results, lines = run(tmp_path, optim={"ema": 0.5}, steps=24)
    assert np.isfinite(results["test_psnr"])
    assert [line["step"] for line in lines if "val_psnr_all" in line] == [12, 24]


def test_a_workdir_is_all_that_rendering_needs(whole):
    workdir, results, _ = whole
    opened = Run.open(workdir, meshes.make_mesh(1))
    scene = opened.scene
    assert scene.pictures.count == 0 and len(scene.cameras) == len(scene.names)
    nerf = Nerf(tiny(), meshes.make_mesh(1))
    first = scene.split["test"][0]
    colour = opened.render(scene.cameras[first]).colour
    np.testing.assert_allclose(colour, nerf.render(opened.variables, first).colour, atol=1e-6)
    psnr = -10 * np.log10(((colour - nerf.truth(first)) ** 2).mean())
    assert psnr == pytest.approx(results["test_scores"][scene.names[first]]["psnr"], abs=1e-3)


def test_the_render_command_films_it(whole, tmp_path, capsys):
    base = ["render", f"--workdir={whole[0]}", f"--out={tmp_path}"]
    assert main([*base, "--path=orbit", "--frames=3", "--scale=2"]) == 0
    frames = mediapy.read_video(tmp_path / "orbit.mp4")
    assert frames.shape == (3, 32, 32, 3) and (tmp_path / "orbit_depth.mp4").exists()
    assert main([*base, "--path=val"]) == 0
    assert mediapy.read_video(tmp_path / "val.mp4").shape == (4, 16, 64, 3)  # truth, picture, error, depth
    capsys.readouterr()
    assert main([*base, "--path=nowhere"]) == 2
    assert "path 'nowhere' is unknown" in capsys.readouterr().err
    assert main(["render", f"--workdir={tmp_path}"]) == 2
    assert "is no workdir" in capsys.readouterr().err


def test_batches_are_a_pure_function_of_the_step_and_cover_all_pictures():
    nerf = Nerf(tiny(batch_size=4096), meshes.make_mesh(1))
    a, b = nerf.batch(7), nerf.batch(7)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert not np.array_equal(a["picture"], nerf.batch(8)["picture"])
    assert len(np.unique(a["picture"])) == len(nerf.pictures)
    x, y = (a["pixel"] - 0.5).astype(int).T
    colours = [nerf.pictures[i][v, u] for i, v, u in zip(a["picture"], y, x, strict=True)]
    np.testing.assert_array_equal(colours, a["colour"])


def test_colours_go_over_the_background():
    colours = np.array([[255, 0, 51, 255], [255, 0, 51, 0], [255, 0, 51, 51]], np.uint8)
    wanted = [[1, 0, 0.2], [0.5, 0.5, 0.5], [0.6, 0.4, 0.44]]
    np.testing.assert_allclose(over(colours, np.full(3, 0.5, np.float32)), wanted, atol=1e-6)
    np.testing.assert_allclose(over(colours[:, :3], np.full(3, 0.5, np.float32))[1], [1, 0, 0.2], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"background": "pink"}, "config.background='pink' must be one of white, black, random"),
        ({"eval_all_every": 10}, "eval_all_every=10 must be a multiple of eval_every, which is 3"),
        ({"steps": 18}, "begin at steps 12, 18, which must ascend and be less than the run's 18"),
        ({"steps": 0}, "the run has no steps"),
        ({"model": {"name": "gaussian"}}, "config.model.name='gaussian' must be one of vanilla, dvgo, nerfacto"),
        ({"downscale": 40}, "images of 6 x 6 pixels are too small to be scored: SSIM takes at least 11 x 11"),
        (
            {"model": {"near": 9.0}},
            "config.model.near=9 times the cameras' distance is .* less than 6, where the scene ends",
        ),
        ({"model": {"coarse_steps": 0}}, "this one has bounds"),
    ],
)
def test_mistakes_are_one_line(change, message):
    with pytest.raises(UserError, match=message):
        Nerf(tiny(**change), meshes.make_mesh(1))


def test_pictures_of_several_sizes_with_masks_train_and_are_scored(tmp_path):
    """Scores are over the pixels that count; every picture has its own size."""
    scene = folders.write_mixed(tmp_path / "scene", scale=2)
    names, sizes = folders.names(), folders.mixed_sizes(scale=2)
    masks = {name: np.full((h, w), 255, np.uint8) for name, (w, h) in zip(names, sizes, strict=True)}
    masks[names[0]][:, :5] = masks[names[1]][:4] = 0
    for name, mask in masks.items():
        path = scene / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    config = default_config("tests.nerf.fields.fog:Fog")
    config.update({"scene": str(scene), "split": "every:4", "batch_size": 512, "steps": 3, "lpips": "none"})
    mesh = meshes.make_mesh(8)
    nerf = Nerf(config.lock(), mesh)
    batch = nerf.batch(0)
    assert len(np.unique(nerf.pictures.size, axis=0)) > 1 and set(batch["picture"]) == set(range(len(nerf.pictures)))
    assert (batch["pixel"][batch["picture"] == 0][:, 1] > 4).all()  # the rows that the second frame's mask leaves out
    results = train.run(nerf, config, mesh, tmp_path / "run")
    state = checkpoint.restore_variables(tmp_path / "run", meshes.replicated(mesh))
    error = (nerf.render(state, 0).colour - nerf.truth(0))[:, 5:] ** 2
    assert results["test_scores"][nerf.scene.names[0]]["psnr"] == pytest.approx(-10 * np.log10(error.mean()), abs=1e-3)
    for i in nerf.scene.split["test"]:
        w, h = sizes[i]
        panel = Image.open(tmp_path / "run" / "test" / file_names(nerf.scene.names)[i])
        assert panel.size == (4 * w, h)
    # A video has room for the largest of them.
    assert main(["render", f"--workdir={tmp_path / 'run'}", "--path=test"]) == 0
    tested = sizes[nerf.scene.split["test"]]
    w, h = tested.max(0)
    shape = (len(tested), h // 2 * 2, 4 * w // 2 * 2, 3)
    assert len(np.unique(tested, axis=0)) > 1 and mediapy.read_video(tmp_path / "run" / "test.mp4").shape == shape


def capture(folder, **changes):
    """The config for any capture, with smaller grids in fewer stages."""
    config = configs.parse(["--config=configs/dvgo.py:capture", f"--config.scene={folder}"])[0]
    config.update({"batch_size": 256, "steps": 12, "eval_every": 0, "lpips": "none", "max_pixels": 1728})
    config.model.update({"grow_at": (), "tighten_every": 0.0, "coarse_steps": 0.5})
    config.model.coarse.update({"voxels": 10**3, "alpha": 1e-2})
    config.model.fine.update({"voxels": 16**3})
    config.update(changes)
    return config.lock()


def test_the_config_for_any_capture_needs_nothing_set(tmp_path, capsys):
    folder = folders.write_colmap_text(tmp_path / "scene")
    points = np.random.default_rng(0).normal(size=(200, 3)) * 0.9 + [0.3, -0.2, 0.5]
    config, mesh = capture(folders.write_points(folder, points)), meshes.make_mesh(1)
    nerf = Nerf(config, mesh)
    told = capsys.readouterr().err
    assert "downscale=auto is 1: pictures of 16 x 12 pixels, 1,728 in all" in told and "8 train, 0 val, 1 test" in told
    assert f"rays begin at {nerf.scene.near:.3g}, by the nearest of 200 points" in told
    assert np.isfinite(train.run(nerf, config, mesh, tmp_path / "run")["test_psnr"])
    opened = Run.open(tmp_path / "run", mesh)
    assert opened.field.setting.near == pytest.approx(nerf.field.setting.near, rel=1e-6)
    assert main(["render", f"--workdir={tmp_path / 'run'}", "--path=test"]) == 0
    assert "downscale=auto is 1" in capsys.readouterr().err


def test_a_capture_without_points_begins_at_a_third_of_the_distance(tmp_path, capsys):
    nerf = Nerf(capture(folders.write_transforms(tmp_path), max_pixels=10**6), meshes.make_mesh(1))
    assert nerf.field.setting.near == pytest.approx(0.35 * nerf.field.setting.distance)
    assert "0.35 times the cameras' distance from their subject" in capsys.readouterr().err
