"""A run that goes on from another with more pictures: one frame, rows by the pictures' names, one-line errors."""

import json
import shutil

import jax
import numpy as np
import pytest

from jaxhw import checkpoint, start, train
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.nerf.cameras import alignment
from jaxhw.nerf.task import Nerf
from tests.nerf import folders, test_task
from tests.nerf.test_refinement import tiny

FEW = 5  # of the nine pictures


def write(folder, count):
    """A capture of the first pictures. The later ones are farther away, so that its frame of training hangs on them."""
    content = folders.transforms()
    for entry in content["frames"][FEW:]:
        matrix = np.array(entry["transform_matrix"])
        matrix[:3, 3] = 2 * matrix[:3, 3] - np.array([0.3, -0.2, 0.5])
        entry["transform_matrix"] = matrix.tolist()
    content["frames"] = content["frames"][:count]
    folders.save(folder / "images", folders.names()[:count], folders.pictures()[:count])
    folders.write_json(folder / "transforms.json", content)
    return folder


def config_of(folder, cameras=None, **changes):
    cameras = {"refine": "SO3xR3", "preconditioned": True} if cameras is None else cameras
    values = {"scene": str(folder), "downscale": 1, "split": "every:4", "steps": 3, "eval_every": 0}
    return tiny(cameras, **values | changes)


def run(config, workdir):
    mesh = meshes.make_mesh(1)
    nerf = Nerf(config, mesh)
    return nerf, train.run(nerf, config, mesh, workdir)


def saved(workdir):
    return checkpoint.restore_variables(workdir, meshes.replicated(meshes.make_mesh(1)))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    nerf, _ = run(config_of(write(folder / "scene", FEW)), folder / "run")
    return folder / "run", nerf


def test_it_goes_on_in_the_older_run_s_frame_with_each_picture_s_own(few, tmp_path):
    source, old = few
    config = config_of(write(tmp_path / "scene", 9), init_from=str(source))
    new = Nerf(config, meshes.make_mesh(1))
    np.testing.assert_allclose(new.scene.to_capture, old.scene.to_capture)
    np.testing.assert_allclose(new.scene.cameras.pose[:FEW], old.scene.cameras.pose, atol=1e-5)
    alone = Nerf(config_of(tmp_path / "scene"), meshes.make_mesh(1)).scene
    assert np.abs(alone.cameras.pose[:FEW] - old.scene.cameras.pose).max() > 0.01  # in a frame of its own
    assert (new.scene.near, new.scene.far) == (old.scene.near, old.scene.far)

    shapes = jax.eval_shape(lambda: new.init(jax.random.key(0)))
    found = new.init_from(shapes)["params"]
    theirs = saved(source).params
    jax.tree.map(np.testing.assert_array_equal, found["field"]["fog"], theirs["field"]["fog"])
    known = {old.scene.names[i]: row for row, i in enumerate(old.scene.split["train"])}
    moved = np.asarray(new.posed.correction.physical(found["cameras"]))
    were = np.asarray(old.posed.correction.physical(theirs["cameras"]))
    names = [new.scene.names[i] for i in new.scene.split["train"]]
    assert len(names) == 6 and len(known) == 3 and set(known) < set(names)
    for row, name in enumerate(names):
        tint, wanted = found["field"]["tint"][row], theirs["field"]["tint"]
        np.testing.assert_allclose(tint, wanted[known[name]] if name in known else wanted.mean(0), atol=1e-7)
        np.testing.assert_allclose(moved[row], were[known[name]] if name in known else 0, atol=1e-5)
    _, results = run(config, tmp_path / "run")
    assert np.isfinite(results["test_psnr_half"])
    kept = json.loads((tmp_path / "run" / "scene.json").read_text())
    np.testing.assert_allclose(kept["to_capture"], old.scene.to_capture)


def test_mistakes_are_one_line(few, tmp_path):
    source, _ = few
    scene = write(tmp_path / "scene", 9)
    mesh = meshes.make_mesh(1)

    def told(**changes):
        with pytest.raises(UserError) as raised:
            run(config_of(scene, **{"init_from": str(source)} | changes), tmp_path / "never")
        assert "\n" not in str(raised.value) and not (tmp_path / "never").exists()
        return str(raised.value)

    assert "is no workdir of a NeRF run" in told(init_from=str(tmp_path / "nowhere"))
    assert "refined its cameras: set config.cameras.refine=SO3xR3" in told(cameras={})
    assert "config.cameras.perturb must be what it was there" in told(cameras={"perturb": (1.0, 0.0)})
    assert "config.cameras.init_only needs config.cameras.refine" in told(cameras={"init_only": True})
    wider = config_of(scene, init_from=str(source)).unlock()
    wider.model.width = 20
    nerf = Nerf(wider.lock(), mesh)
    with pytest.raises(UserError, match=r"does not fit \(params/field/fog/layers_0/bias is \(16,\) there and \(20,\)"):
        nerf.init_from(jax.eval_shape(lambda: nerf.init(jax.random.key(0))))
    shutil.copytree(source, tmp_path / "moved")
    values = json.loads((tmp_path / "moved" / "scene.json").read_text())
    values["to_capture"] = (np.array(values["to_capture"]) @ np.diag([2, 2, 2, 1])).tolist()
    (tmp_path / "moved" / "scene.json").write_text(json.dumps(values))
    assert "elsewhere in this one, by" in told(init_from=str(tmp_path / "moved"))
    values["names"] = [f"other_{name}" for name in values["names"]]
    (tmp_path / "moved" / "scene.json").write_text(json.dumps(values))
    assert "has no picture of a name that this scene has" in told(init_from=str(tmp_path / "moved"))


def test_another_field_takes_the_cameras_alone(few, tmp_path):
    """The scene is learnt anew, from the poses that the other run ended with."""
    source, old = few
    cameras = {"refine": "SO3xR3", "init_only": True}
    config = config_of(write(tmp_path / "scene", FEW), cameras, init_from=str(source)).unlock()
    config.model.width = 20  # not that of the other run
    new = Nerf(config.lock(), meshes.make_mesh(1))
    start_of = lambda: start.variables(new, config, tmp_path / "run")
    anew, theirs = new.init(jax.random.split(jax.random.key(config.seed))[0]), saved(source)
    jax.tree.map(np.testing.assert_array_equal, start_of().params["field"], anew.params["field"])
    refined = old.posed.training(theirs.params).pose
    assert np.abs(refined - old.posed.given.pose).max() > 1e-4
    np.testing.assert_allclose(new.posed.training(start_of().params).pose, refined, atol=1e-5)
    train.run(new, config, meshes.make_mesh(1), tmp_path / "run")


def test_cameras_with_noise_are_gone_on_with_if_the_noise_is_the_same(few, tmp_path):
    noisy = {"refine": "SO3xR3", "perturb": (1.0, 0.01)}
    scene = write(tmp_path / "scene", FEW)
    run(config_of(scene, noisy), tmp_path / "run")
    again = noisy | {"init_only": True}
    _, results = run(config_of(scene, again, init_from=str(tmp_path / "run")), tmp_path / "again")
    assert results["translation_error"] != results["translation_error_start"]
    with pytest.raises(UserError, match="the noise on its cameras is another"):
        run(config_of(scene, again, init_from=str(tmp_path / "run"), seed=1), tmp_path / "never")
    with pytest.raises(UserError, match=r"config\.cameras\.perturb must be what it was there"):
        run(config_of(scene, {"refine": "SO3xR3"}, init_from=str(tmp_path / "run")), tmp_path / "never")


def test_a_scene_of_other_pictures_is_refused(few, tmp_path):
    source, _ = few
    vanilla = config_of(write(tmp_path / "scene", 9), model="vanilla", init_from=str(source))
    vanilla = vanilla.unlock()
    vanilla.scene = "demo"
    with pytest.raises(UserError, match="has no picture of a name"):
        Nerf(vanilla.lock(), meshes.make_mesh(1))


@pytest.mark.slow
def test_a_field_that_grows_is_refused(tmp_path):
    config, mesh = test_task.tiny(steps=20, eval_every=100, eval_all_every=0), meshes.make_mesh(1)
    train.run(Nerf(config, mesh), config, mesh, tmp_path / "grown")
    again = test_task.tiny(init_from=str(tmp_path / "grown"))
    with pytest.raises(UserError, match="does not change its shapes while it is learnt"):
        train.run(Nerf(again, mesh), again, mesh, tmp_path / "never")


def test_the_demo_goes_on_in_place(tmp_path):
    """Vanilla NeRF on all the same pictures: it starts with the weights that the other ended with."""
    config = tiny({}, "vanilla", steps=2)
    run(config, tmp_path / "first")
    nerf = Nerf(tiny({}, "vanilla", steps=2, init_from=str(tmp_path / "first")), meshes.make_mesh(1))
    found = nerf.init_from(jax.eval_shape(lambda: nerf.init(jax.random.key(0))))
    jax.tree.map(np.testing.assert_array_equal, found["params"], saved(tmp_path / "first").params)
    assert alignment.scale_of(nerf.scene.to_capture) == 1
