import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.checkpoint import Checkpoints, exists, restore_variables
from jaxhw.errors import UserError

STATE = {"params": {"w": jnp.arange(6.0).reshape(2, 3)}, "model_state": {}, "ema": None, "rng": jax.random.key(3)}


def replicated(devices):
    return meshes.replicated(meshes.make_mesh(devices))


def whole(devices):
    """The layout of a state that lies whole on so many devices."""
    return lambda shapes: meshes.layout(shapes, meshes.make_mesh(devices))


def test_it_restores_values_types_and_keys_on_other_devices(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None and checkpoints.path() is None
    checkpoints.save(5, STATE)
    checkpoints.wait()
    back = checkpoints.restore(whole(4))
    assert len(back["params"]["w"].devices()) == 4
    np.testing.assert_array_equal(back["params"]["w"], STATE["params"]["w"])
    np.testing.assert_array_equal(jax.random.key_data(back["rng"]), jax.random.key_data(STATE["rng"]))
    assert checkpoints.path() == tmp_path / "checkpoints" / "step_5" and checkpoints.path().is_dir()


def test_the_newest_two_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, STATE)
    checkpoints.wait()
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("step_*")) == ["step_2", "step_3"]


def test_a_checkpoint_is_dropped(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, STATE)
    checkpoints.drop(2)
    checkpoints.drop(7)
    assert checkpoints.latest() == 1 and not (tmp_path / "checkpoints" / "step_2").exists()


def test_an_incomplete_checkpoint_is_not_seen(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, STATE)
    checkpoints.wait()
    checkpoints.close()
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "step_1", folder / "step_2.orbax-checkpoint-tmp")
    again = Checkpoints(tmp_path)
    assert again.latest() == 1
    assert "params" in again.restore(whole(1))


def test_variables_are_the_averaged_ones_where_kept(tmp_path):
    for name, ema in (("plain", None), ("ema", {"params": {"w": -STATE["params"]["w"]}, "model_state": {}})):
        checkpoints = Checkpoints(tmp_path / name)
        checkpoints.save(1, {**STATE, "ema": ema})
        checkpoints.wait()
    sign = [float(restore_variables(tmp_path / name, replicated(1)).params["w"][1, 2]) for name in ("plain", "ema")]
    assert sign == [5.0, -5.0]


def test_errors_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        restore_variables(tmp_path / "empty", replicated(1))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, STATE)
    checkpoints.wait()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10))
    with pytest.raises(UserError, match=r"no room for a checkpoint in .*; the last complete one is .*step_1$"):
        checkpoints.save(2, STATE)
    shutil.rmtree(tmp_path / "checkpoints" / "step_1" / "default" / "d")  # its numbers
    with pytest.raises(UserError, match="step_1 cannot be restored") as caught:
        Checkpoints(tmp_path).restore(whole(1))
    assert "\n" not in str(caught.value)


def test_variables_come_on_the_devices_asked_for(tmp_path):
    """Whatever the run had: a checkpoint of eight devices is scored on two."""
    params = jax.device_put({"w": jnp.arange(4.0)}, replicated(8))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"params": params, "model_state": {}, "ema": None})
    checkpoints.wait()
    checkpoints.close()
    variables = restore_variables(tmp_path, replicated(2))
    assert variables.params["w"].sharding == replicated(2) and variables.params["w"].tolist() == [0, 1, 2, 3]


def test_exists_makes_nothing_and_sees_complete_checkpoints_only(tmp_path):
    assert not exists(tmp_path / "run") and not (tmp_path / "run").exists()
    (tmp_path / "checkpoints" / "step_3.orbax-checkpoint-tmp-1").mkdir(parents=True)
    assert not exists(tmp_path)
    (tmp_path / "checkpoints" / "step_3").mkdir()
    assert exists(tmp_path)
