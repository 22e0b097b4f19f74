import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.checkpoint import Checkpoints, exists, restore_variables
from jaxhw.errors import DiskFailure, UserError, disk_failure

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
    with pytest.raises(UserError, match=r"step_1 is damaged \(default/d/\w+ is missing\); there is no older") as caught:
        Checkpoints(tmp_path).restore(whole(1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["save", "wait_until_finished", "close"])
def test_a_full_disk_is_told_with_a_path(tmp_path, monkeypatch, method):
    """Orbax's error may have none."""

    def fail(*args, **options):
        raise RuntimeError("in the background") from OSError(28, "No space left on device")

    checkpoints = Checkpoints(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, method, fail)
        with pytest.raises(
            DiskFailure, match=rf"^cannot write {tmp_path}/checkpoints: No space left on device$"
        ) as met:
            checkpoints.close() if method == "close" else checkpoints.save(1, STATE)
    assert disk_failure(met.value) == f"cannot write {tmp_path}/checkpoints: No space left on device"
    checkpoints.close()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A workdir with two checkpoints, whose numbers are 1 and 2."""
    workdir = tmp_path_factory.mktemp("two")
    checkpoints = Checkpoints(workdir)
    for step in (1, 2):
        checkpoints.save(step, {**STATE, "params": {"w": jnp.full((64, 64), float(step))}}, 10.0 * step)
    checkpoints.wait()
    checkpoints.close()
    return workdir


def summed(step):
    return [str(path.relative_to(step)) for path in sorted(step.rglob("*")) if path.is_file()]


NEEDLESS = ("_CHECKPOINT_METADATA", "commit_success.txt")  # written by Orbax when all else is complete


@pytest.mark.parametrize("content", [b"", b"null", b"[1]", b"\0" * 300], ids=["empty", "null", "list", "zeros"])
def test_damaged_metadata_cost_the_clock_alone(two, tmp_path, capsys, content):
    shutil.copytree(two, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "step_2" / "_CHECKPOINT_METADATA"
    path.write_bytes(content)
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.restore(whole(1))["params"]["w"][0, 0] == 2 and checkpoints.seconds() == 0
    assert len(capsys.readouterr().err.splitlines()) <= 1


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(two, tmp_path, capsys, damage):
    """Whichever of its files it is; a lost checksums.json makes it one of an older version's."""
    names = [name for name in summed(two / "checkpoints" / "step_2") if name not in NEEDLESS]
    assert "checksums.json" in names and len(names) > 8
    for name in names:
        workdir = tmp_path / name.replace("/", "_")
        shutil.copytree(two, workdir)
        folder = workdir / "checkpoints"
        damage(folder / "step_2" / name)
        lost = (name, damage) == ("checksums.json", Path.unlink)
        assert restore_variables(workdir, replicated(1)).params["w"][0, 0] == (2 if lost else 1)
        assert summed(folder / "step_2") and len(capsys.readouterr().err.splitlines()) == (0 if lost else 1)
        checkpoints = Checkpoints(workdir)
        assert checkpoints.restore(whole(1), set_aside=True)["params"]["w"][0, 0] == (2 if lost else 1)
        told = capsys.readouterr().err.splitlines()
        assert (checkpoints.latest(), checkpoints.seconds()) == ((2, 20.0) if lost else (1, 10.0))
        if not lost:
            assert len(told) == 1 and told[0].startswith(f"warning: {folder / 'step_2'} is damaged (")
            assert f"the older checkpoint {folder / 'step_1'} is read in its place" in told[0]
            assert told[0].endswith("; the damaged one is kept as damaged_step_2")
            assert (folder / "damaged_step_2").is_dir() and not (folder / "step_2").exists()
            checkpoints.save(2, STATE)
            checkpoints.wait()
            assert Checkpoints(workdir).latest() == 2
        checkpoints.close()


def test_older_versions_checkpoints_have_no_checksums(two, tmp_path, capsys):
    """They are read as they are; of one that cannot be, the one before is, or one line says that there is none."""
    shutil.copytree(two, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    for step in (1, 2):
        (folder / f"step_{step}" / "checksums.json").unlink()
    assert restore_variables(tmp_path / "run", replicated(1)).params["w"][0, 0] == 2
    for path in (folder / "step_2" / "default").rglob("*"):
        if path.is_file():
            cut(path)
    assert restore_variables(tmp_path / "run", replicated(1)).params["w"][0, 0] == 1
    assert "step_2 cannot be restored (" in capsys.readouterr().err
    shutil.rmtree(folder / "step_1" / "default")
    with pytest.raises(
        UserError, match=r"step_2 cannot be restored \(.*no older checkpoint that is sound: move"
    ) as caught:
        restore_variables(tmp_path / "run", replicated(1))
    assert "\n" not in str(caught.value)


def test_what_is_not_damage_is_not_set_aside(two, tmp_path):
    """A layout that cannot be, files of another user."""
    shutil.copytree(two, tmp_path / "run")
    checkpoints = Checkpoints(tmp_path / "run")

    def refuse(shapes):
        raise UserError("config.mesh.layout is none")

    with pytest.raises(UserError, match=r"layout is none"):
        checkpoints.restore(refuse, set_aside=True)
    with pytest.raises(UserError, match="step_2 cannot be restored"):
        checkpoints.restore(lambda shapes: {}, set_aside=True)
    assert checkpoints.latest() == 2 and not list((tmp_path / "run" / "checkpoints").glob("damaged*"))


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
