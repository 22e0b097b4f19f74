"""Tasks whose shapes change while they train: what the loop does at a boundary, and that a stop anywhere is exact."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhw import mesh as meshes
from jaxhw import metrics, optim, start, train
from jaxhw.state import Variables
from tests.toy import Toy, final_state, toy_config

OPTIMISER = {"ema": 0.9, "schedule": "cosine"}


class Growing(Toy):
    """Its weights are the sum of w's rows: one up to step 7, then two; from step 13 on it counts differently."""

    stages = (7, 13)

    def init(self, rng):
        return Variables({"w": jax.random.normal(rng, (1, 4))}, {"seen": jnp.zeros(())})

    def grow(self, variables, stage):
        if stage == 1:
            w = np.asarray(variables.params["w"])
            return variables.replace(params={"w": np.concatenate([w, 0.1 * w])})
        return variables.replace(model_state={"seen": np.float32(variables.model_state["seen"] + 1000)})

    def loss(self, params, model_state, batch, context):
        return super().loss({"w": params["w"].sum(0)}, model_state, batch, context)

    def evaluate(self, variables, step):
        error = jnp.abs(variables.params["w"].sum(0) - jnp.arange(4.0)).max()
        return {"val_error": float(error), "rows": float(len(variables.params["w"]))}


class Stopping(Growing):
    """Sends itself SIGTERM in the evaluation after step ``at``."""

    at = 0

    def evaluate(self, variables, step):
        if int(variables.model_state["seen"]) % 1000 == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().evaluate(variables, step)


def run(workdir, kind=Growing, devices=1, **optimiser):
    options = {"eval_every": 1, "checkpoint_every": 100, "steps": 18, "optim": OPTIMISER | optimiser}
    config, mesh = toy_config(**options), meshes.make_mesh(devices)
    results = train.run(kind(config, mesh), config, mesh, workdir)
    lines = metrics.read(workdir / "metrics.jsonl")
    return results, [{k: v for k, v in line.items() if k not in ("time", "rows_per_second")} for line in lines]


def saved(workdir):
    state = final_state(workdir)
    return {**state, "rng": jax.random.key_data(state["rng"])}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return run(workdir, ema=0.0)[1], saved(workdir)


def test_the_stages_take_effect_between_steps(whole):
    lines, state = whole
    rows = {line["step"]: line["rows"] for line in lines if "rows" in line}
    assert rows[7] == 1 and rows[8] == 2
    assert state["params"]["w"].shape == (2, 4) and float(state["model_state"]["seen"]) == 1018
    assert next(line["lr"] for line in lines if line["step"] == 10) == pytest.approx(
        float(optim.schedule(OPTIMISER | {"lr": 0.05}, 18)(9))
    )


@pytest.mark.parametrize("at", [3, 7, 10, 13, 16])
def test_a_run_stopped_in_any_stage_or_at_a_boundary_continues_bit_for_bit(whole, tmp_path, at):
    results, _ = run(tmp_path, type("Stop", (Stopping,), {"at": at}), ema=0.0)
    assert results == {} and int(saved(tmp_path)["step"]) == at
    assert len(saved(tmp_path)["params"]["w"]) == (1 if at <= 7 else 2)  # a boundary belongs to the stage it ends
    _, lines = run(tmp_path, ema=0.0)
    assert lines == whole[0]
    jax.tree.map(np.testing.assert_array_equal, saved(tmp_path), whole[1])


def test_moments_start_anew_where_shapes_change_and_the_rate_goes_on():
    config, mesh = toy_config(steps=18, optim=OPTIMISER), meshes.make_mesh(1)
    task = Growing(config, mesh)
    state = start.begin(task, config, mesh, task.init(jax.random.key(0)))
    step = train.make_step(task, config, mesh)
    for i in range(7):
        state, _ = step(state, meshes.put_rows(task.batch(i), mesh))
    grown = start.grow(task, config, state, 1, mesh)
    counts = dict(optax.tree_utils.tree_get_all_with_path(grown.opt_state, "count"))
    assert sorted(int(c) for c in counts.values()) == [0, 7]  # Adam's own, and the schedule's
    assert optax.tree_utils.tree_get(grown.opt_state, "mu")["w"].shape == (2, 4)
    np.testing.assert_array_equal(grown.ema.params["w"], grown.params["w"])
    kept = start.grow(task, config, grown, 2, mesh)
    assert kept.opt_state is grown.opt_state and float(kept.model_state["seen"]) == 1007


def test_eight_devices_give_what_one_gives(whole, tmp_path):
    _, lines = run(tmp_path, devices=8, ema=0.0)
    for a, b in zip(whole[0], lines, strict=True):
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5)
