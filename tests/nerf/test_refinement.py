"""Cameras refined with a tiny scene: what is learnt, kept, resumed, scored, and refused."""

import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import checkpoint, metrics, start, train
from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.__main__ import main
from jaxhw.errors import UserError
from jaxhw.nerf.cameras import alignment
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.scenes.formats import colmap_model
from jaxhw.nerf.task import Nerf, default_config
from jaxhw.state import Variables
from jaxhw.task import Context
from tests.nerf import test_task

CAMERAS = {"refine": "SO3xR3", "perturb": (2.0, 0.02)}


def tiny(cameras=None, model="tests.nerf.fields.tinted:Tinted", **changes):
    """The demo at 16 pixels in tinted fog."""
    config = default_config(model)
    config.update({"scene": "demo", "downscale": 16, "batch_size": 128, "steps": 12, "log_every": 4, "eval_every": 6})
    config.update({"checkpoint_every": 100, "lpips": "none"})
    config.optim.lr = 5e-3
    if model == "vanilla":
        config.model.update({"width": 16, "depth": 2, "samples": 8, "importance": 8})
    else:
        config.optim.groups = (("tint", 0.5),)
    config.cameras.update(CAMERAS if cameras is None else cameras)
    config.update(changes)
    return config.lock()


class Stopping(train.Observer):
    """Sends SIGTERM after step 7."""

    def after_step(self, step, snapshot):
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)


def run(workdir, config, *observers, devices=1):
    mesh = meshes.make_mesh(devices)
    return train.run(Nerf(config, mesh), config, mesh, workdir, observers)


def lines(workdir):
    kept = metrics.read(workdir / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in ("time", "rays_per_second")} for line in kept]


def saved(workdir):
    return checkpoint.restore_variables(workdir, meshes.replicated(meshes.make_mesh(1)))


@pytest.fixture(scope="module")
def refined(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("refined")
    return workdir, run(workdir, tiny())


def test_corrections_are_learnt_beside_the_field_and_told(refined):
    workdir, results = refined
    params = saved(workdir).params
    assert set(params) == {"field", "cameras"} and params["cameras"].shape == (60, 6)
    assert 0 < np.abs(params["cameras"]).max() < 0.1 and np.isfinite(params["cameras"]).all()
    logged = [line for line in lines(workdir) if "loss" in line]
    assert all(line["camera_degrees"] > 0 and line["camera_translation"] > 0 for line in logged)
    assert results["rotation_error_degrees_start"] == pytest.approx(1.8, abs=0.5)
    assert results["translation_error_start"] == pytest.approx(0.018, abs=0.006)
    for name in ("test_psnr", "test_psnr_sim3", "test_psnr_half", "rotation_error_degrees", "translation_error"):
        assert np.isfinite(results[name])
    for name in ("psnr_sim3", "psnr_half"):
        scores = [score[name] for score in results["test_scores"].values()]
        assert len(scores) == 12 and results[f"test_{name}"] == pytest.approx(np.mean(scores))


def test_a_refined_run_stopped_continues_bit_for_bit(refined, tmp_path):
    assert run(tmp_path, tiny(), Stopping()) == {}
    again = run(tmp_path, tiny())
    assert lines(tmp_path) == lines(refined[0])
    jax.tree.map(np.testing.assert_array_equal, saved(tmp_path), saved(refined[0]))
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in refined[1].items() if k != "seconds"}


def test_a_workdir_gives_the_refined_cameras(refined):
    """The training ones as they were learnt; held-out ones moved as these were, from where they truly are."""
    workdir, results = refined
    opened = Run.open(workdir, meshes.make_mesh(1))
    nerf = Nerf(tiny(), meshes.make_mesh(1))
    scene, train_rows, test_rows = nerf.scene, nerf.scene.split["train"], nerf.scene.split["test"]
    rows = np.asarray(saved(workdir).params["cameras"])
    np.testing.assert_allclose(
        opened.cameras.pose[train_rows, :, 3], scene.cameras.pose[train_rows, :, 3] + rows[:, :3], atol=1e-6
    )
    np.testing.assert_array_equal(opened.scene.true_pose, scene.true_pose)
    matrix = alignment.similarity(scene.true_pose[train_rows], opened.cameras.pose[train_rows])
    wanted = alignment.moved_poses(scene.true_pose[test_rows], matrix)
    np.testing.assert_allclose(opened.cameras.pose[test_rows], wanted, atol=1e-5)
    first = test_rows[0]
    error = ((opened.render(opened.cameras[first]).colour - nerf.truth(first)) ** 2).mean()
    assert -10 * np.log10(error) == pytest.approx(results["test_scores"][scene.names[first]]["psnr_sim3"], abs=1e-3)
    degrees, share = alignment.errors(opened.cameras.pose[train_rows], scene.true_pose[train_rows])
    assert degrees == pytest.approx(results["rotation_error_degrees"], rel=1e-4)
    assert share == pytest.approx(results["translation_error"], rel=1e-4)


def test_cameras_wait_for_their_start(tmp_path):
    """Until then the field is learnt as if they were not refined."""
    late = run(tmp_path / "late", tiny(CAMERAS | {"start": 0.9}, steps=10))
    off = run(tmp_path / "off", tiny({"perturb": CAMERAS["perturb"]}, steps=10))
    rows = saved(tmp_path / "late").params["cameras"]
    assert np.abs(rows).max() > 0 and np.abs(rows).max() < 1.1e-3  # one step of Adam
    assert set(saved(tmp_path / "off").params) == {"fog", "tint"}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        saved(tmp_path / "late").params["field"],
        saved(tmp_path / "off").params,
    )
    assert "test_psnr_half" in off and off["translation_error"] == off["translation_error_start"]
    assert late["translation_error_start"] == off["translation_error_start"]


def test_without_refinement_nothing_is_different(tmp_path):
    nerf = Nerf(tiny({}), meshes.make_mesh(1))
    assert nerf.groups == () and nerf.below == "" and nerf.metric_names == ("loss", "psnr")
    assert set(nerf.init(jax.random.key(0)).params) == {"fog", "tint"}
    results = run(tmp_path, tiny({}, steps=2))
    assert not any("sim3" in name or "half" in name or "error" in name for name in results)
    assert "true_pose" not in json.loads((tmp_path / "scene.json").read_text())


def roomy_dvgo():
    """Where no device's bucket is full, since each leaves its own rays out."""
    config = test_task.tiny(cameras=CAMERAS | {"preconditioned": True}).unlock()
    config.model.coarse.update({"blocks": 20.0, "samples": 100.0, "shaded": 100.0})
    return config.lock()


@pytest.mark.parametrize("model", ["vanilla", "dvgo"])
def test_eight_devices_refine_as_one_and_nothing_is_compiled_twice(model):
    config = tiny(model="vanilla") if model == "vanilla" else roomy_dvgo()
    states, compiled = [], []
    for devices in (1, 8):
        mesh = meshes.make_mesh(devices)
        nerf = Nerf(config, mesh)
        state = start.begin(nerf, config, mesh, jax.device_get(nerf.init(jax.random.key(0))))
        step = train.make_step(nerf, config, mesh)
        for i in range(4):
            state, _ = step(state, meshes.put_rows(nerf.batch(i), mesh))
            compiled.append(step._cache_size())
        states.append(jax.device_get(state.params["cameras"]))
    # Of several devices jit counts a second kind of arguments in the third step, with or without refinement.
    assert np.abs(states[0]).max() > 1e-4 and compiled[:4] == [1] * 4 and compiled[6:] == [compiled[6]] * 2
    np.testing.assert_allclose(*states, atol=2e-4)


@pytest.mark.slow
def test_dvgo_s_cameras_stay_where_they_are_while_its_grids_grow(tmp_path):
    results = run(tmp_path, test_task.tiny(cameras=CAMERAS, steps=20, eval_every=100, eval_all_every=0))
    assert saved(tmp_path).params["cameras"].shape == (60, 6) and np.isfinite(results["test_psnr_half"])
    opened = Run.open(tmp_path, meshes.make_mesh(1))
    assert np.isfinite(opened.render(opened.cameras[0]).colour).all()


@pytest.mark.parametrize(
    ("cameras", "model", "message"),
    [
        (
            {"refine": "SE3"},
            "tests.nerf.fields.fog:Fog",
            "config.cameras.refine=SE3: Fog gives its samples no gradient",
        ),
        ({"perturb": (-1.0, 0.0)}, "vanilla", "config.cameras.perturb=.-1.0, 0.0. must be a tuple of 2 numbers"),
        ({"perturb": (1.0, 0.0, 3.0)}, "vanilla", "config.cameras.perturb=.1.0, 0.0, 3.0. must be a tuple of 2"),
        ({"distortion": True}, "vanilla", "config.cameras.distortion needs config.cameras.refine"),
    ],
)
def test_mistakes_are_one_line(cameras, model, message):
    config = default_config(model)
    config.update({"scene": "demo", "downscale": 16, "batch_size": 128, "steps": 12})
    config.cameras.update(cameras)
    with pytest.raises(UserError, match=message) as raised:
        Nerf(config.lock(), meshes.make_mesh(1))
    assert "\n" not in str(raised.value)


def test_a_start_beyond_the_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cameras.delay=12.0 must be a number below 12, the run's steps"):
        run(tmp_path, tiny(CAMERAS | {"start": 12.0}))


def test_a_checkpoint_of_other_pictures_is_one_line(refined):
    nerf, variables = Nerf(tiny(), meshes.make_mesh(1)), saved(refined[0])
    fewer = Variables(variables.params | {"cameras": variables.params["cameras"][:50]}, {})
    with pytest.raises(UserError, match="the checkpoint has 50 corrected cameras of 6 numbers each, and the scene 60"):
        nerf.from_saved(fewer)


def test_workdirs_older_than_the_option_open():
    config = configs.parse(["--config=configs/vanilla.py:small"])[0].unlock()
    del config.cameras
    config.downscale = 16
    assert Nerf(config.lock(), meshes.make_mesh(1)).posed.correction is None


@pytest.mark.slow
@pytest.mark.parametrize(("preconditioned", "lr"), [(False, 3e-3), (True, 1e-3)])
def test_refinement_brings_cameras_nearer_to_the_true_ones(tmp_path, preconditioned, lr):
    """Without it, the same run has 17.9 dB with the poses of held-out pictures fitted to their halves."""
    cameras = {"refine": "SO3xR3", "preconditioned": preconditioned, "perturb": (3.0, 0.03), "start": 0.1, "lr": lr}
    config = tiny(cameras, steps=600, batch_size=512, downscale=8, eval_every=10**6, log_every=100).unlock()
    config.optim.lr, config.model.width, config.model.samples = 1e-2, 64, 32
    results = run(tmp_path, config.lock())
    assert results["rotation_error_degrees"] < 0.75 * results["rotation_error_degrees_start"]
    assert results["translation_error"] < 0.95 * results["translation_error_start"]
    assert (
        results["test_psnr"] < results["test_psnr_sim3"] < results["test_psnr_half"] and results["test_psnr_half"] > 19
    )


def test_the_gradient_of_the_corrections_is_that_of_finite_differences():
    nerf = Nerf(tiny({"refine": "SE3"}), meshes.make_mesh(1))
    variables = nerf.init(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, nerf.batch(0))
    context = Context(jnp.int32(0), jnp.float32(0), jax.random.key(1), nerf.renderer.mesh)
    loss = jax.jit(lambda rows: nerf.loss(variables.params | {"cameras": rows}, {}, batch, context)[0])
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(60, 6)) * 0.01, jnp.float32)
    found = jax.grad(loss)(rows)
    for seed in range(3):
        step = jnp.asarray(np.random.default_rng(seed).normal(size=(60, 6)), jnp.float32)
        slope = (loss(rows + 2e-4 * step) - loss(rows - 2e-4 * step)) / 4e-4
        np.testing.assert_allclose((found * step).sum(), slope, rtol=0.03, atol=5e-4)


def test_refined_cameras_are_exported(refined, tmp_path, capsys):
    """All 76 of them, as the opened run has them; the demo's frame is its own."""
    assert main(["export", f"--workdir={refined[0]}", "--what=cameras", f"--out={tmp_path / 'out'}"]) == 0
    assert capsys.readouterr().out.startswith("76 cameras in ")
    posed = colmap_model.images(tmp_path / "out" / "sparse" / "0")
    opened = Run.open(refined[0], meshes.make_mesh(1))
    by_name = {image.name: image.pose for image in posed}
    found = np.stack([by_name[name] for name in opened.scene.names])
    np.testing.assert_allclose(found, opened.cameras.pose, atol=1e-5)
