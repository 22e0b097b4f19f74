"""A run of nerfacto with refined cameras through the loop: exact resume in every phase, one program."""

import jax
import numpy as np
import pytest

from jaxhw import checkpoint, step, train
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.task import Nerf, default_config
from tests.nerf.running import Stopping, trained

STEPS = 24


def tiny(**changes):
    """16 pixels; proposals learn in every step, then in few; cameras move from step 8 on."""
    config = default_config("nerfacto")
    config.update({"scene": "demo", "downscale": 16, "batch_size": 128, "steps": STEPS, "log_every": 4})
    config.update({"eval_every": 4, "checkpoint_every": 100, "lpips": "none"})
    config.optim.update({"lr": 1e-2, "eps": 1e-15})
    config.cameras.update({"refine": "SO3xR3", "start": 8})
    model = config.model
    model.hash.update({"levels": 3, "table_size": 2**9, "coarsest": 4, "finest": 16, "layout": "column"})
    model.proposal.update({"kind": "grid", "samples": (16,), "voxels": 16, "warmup": 4.0, "anneal": 6.0})
    model.update({"samples": 8, "shaded": 8.0, "width": 8, "geometry": 4, "colour_widths": (8,), "appearance": 4})
    model.update({"spacing": "uniform", "background": "scene", "coarse_to_fine": 0.5})
    config.update(changes)
    return config.lock()


def run(workdir, kind=Nerf, **changes):
    return trained(workdir, tiny(**changes), kind)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, *run(workdir)


@pytest.mark.parametrize("at", [4, 8, 16])  # proposals learn in every step; cameras begin to move; both go on
def test_a_run_stopped_in_any_phase_continues_bit_for_bit(whole, tmp_path, at):
    assert run(tmp_path, type("Stop", (Stopping,), {"at": at}))[0] == {}
    again, lines = run(tmp_path)
    assert lines == whole[2] and again["test_scores"] == whole[1]["test_scores"]
    states = [checkpoint.restore_variables(w, meshes.replicated(meshes.make_mesh(1))) for w in (tmp_path, whole[0])]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_no_phase_compiles_the_step_anew():
    """Proposals that rest, cameras that begin to move, levels that open: one trace of the loss."""
    config, mesh, traces = tiny(), meshes.make_mesh(1), []

    class Counting(Nerf):
        def loss(self, *args):
            traces.append(1)
            return super().loss(*args)

    task = Counting(config, mesh)
    state = train.start.begin(task, config, mesh, jax.device_get(task.init(jax.random.key(0))))
    one = step.make_step(task, config, mesh)
    for i in range(STEPS):
        state, _ = one(state, meshes.put_rows(task.batch(i), mesh))
    assert len(traces) == 1 and one._cache_size() == 1


def test_a_finished_run_renders_by_its_workdir(whole):
    opened = Run.open(whole[0], meshes.make_mesh(1))
    test = opened.scene.split["test"][0]
    colour = opened.render(opened.scene.cameras[test]).colour
    truth = Nerf(tiny(), meshes.make_mesh(1)).truth(test)
    psnr = -10 * np.log10(((colour - truth) ** 2).mean())
    assert psnr == pytest.approx(whole[1]["test_scores"][opened.scene.names[test]]["psnr"], abs=1e-3)


def test_scores_of_a_refined_run_have_their_names(whole):
    results = whole[1]
    assert {"test_psnr", "test_psnr_sim3", "test_psnr_half"} <= results.keys()
    assert all(np.isfinite(results[name]) for name in ("test_psnr", "test_psnr_sim3", "test_psnr_half"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"hash": {"table_size": 1000}}}, r"config\.model\.hash\.table_size=1000 must be .* power of two"),
        (
            {"model": {"proposal": {"table_size": 24}}},
            r"config\.model\.proposal\.table_size=24 must be .* power of two",
        ),
        (
            {"model": {"hash": {"layout": "column", "table_size": 512, "finest": 512}}},
            r"config\.model\.hash\.table_size=512 must be above 514, a column",
        ),
        (
            {
                "model": {
                    "proposal": {
                        "layout": "column",
                        "table_size": 64,
                        "finest": (62,),
                        "samples": (8,),
                        "kind": "networks",
                    }
                }
            },
            r"config\.model\.proposal\.table_size=64 must be above 64",
        ),
        ({"model": {"hash": {"layout": "heap"}}}, r"config\.model\.hash\.layout='heap' must be one of hashed, dense"),
    ],
)
def test_bad_options_are_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        Nerf(tiny(**changes), meshes.make_mesh(1))
