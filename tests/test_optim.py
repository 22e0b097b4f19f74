"""Optimisers and schedules against torch.optim (golden/optim.py) and against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhw import optim
from jaxhw.errors import UserError
from tests.golden import FOLDER as GOLDEN_FOLDER

GOLDEN = np.load(GOLDEN_FOLDER / "optim.npz")
STEPS = 20
SGD = {"name": "sgd", "lr": 0.01, "momentum": 0.9}


@pytest.fixture(autouse=True)
def float64():
    """So that a wrong formula can't hide behind rounding: 1 - 0.999 alone costs Adam 1e-5 in float32."""
    with jax.enable_x64(True):
        yield


def start():
    """The golden problem's parameters under the names that flax gives."""
    init = {k: jnp.asarray(GOLDEN[f"init/{k}"]) for k in ("w1", "b1", "w2", "b2")}
    return {"in": {"kernel": init["w1"], "bias": init["b1"]}, "out": {"kernel": init["w2"], "bias": init["b2"]}}


def loss(p):
    x, y = GOLDEN["x"], GOLDEN["y"]
    out = jnp.tanh(x @ p["in"]["kernel"] + p["in"]["bias"]) @ p["out"]["kernel"] + p["out"]["bias"]
    return jnp.mean(jnp.sum((out - y) ** 2, 1))


def train(options):
    """Parameters after 20 steps and the loss before each."""
    tx = optim.make(options, STEPS)

    def step(carry, _):
        p, state = carry
        value, grads = jax.value_and_grad(loss)(p)
        updates, state = tx.update(grads, state, p)
        return (optax.apply_updates(p, updates), state), value

    (p, _), losses = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=STEPS))(start())
    return p, losses


@pytest.mark.parametrize(
    ("name", "options"),
    {
        "adam": {"name": "adam", "lr": 0.02, "weight_decay": 0.1},
        "adamw": {"name": "adamw", "lr": 0.02, "weight_decay": 0.1},
        "adamw_norm_bias": {"name": "adamw", "lr": 0.02, "weight_decay": 0.5, "decay_exclude": "norm_bias"},
        "sgd_nesterov": SGD | {"weight_decay": 0.05},
        "sgd_plain": SGD | {"weight_decay": 0.05, "nesterov": False},
        "sgd_norm_bias": SGD | {"weight_decay": 0.2, "decay_exclude": "norm_bias"},
        "clip": {"name": "sgd", "lr": 0.02, "momentum": 0.5, "clip_norm": 2.0},
        "onecycle_adam": {"name": "adam", "lr": 0.02, "schedule": "onecycle"},
    }.items(),
)
def test_twenty_steps_equal_torch(name, options):
    p, losses = train(options)
    got = {"w1": p["in"]["kernel"], "b1": p["in"]["bias"], "w2": p["out"]["kernel"], "b2": p["out"]["bias"]}
    np.testing.assert_allclose(losses, GOLDEN[f"{name}/losses"], rtol=1e-6)
    for key, value in got.items():
        np.testing.assert_allclose(value, GOLDEN[f"{name}/{key}"], atol=1e-6, err_msg=key)


@pytest.mark.parametrize(
    ("name", "options"),
    {
        "onecycle": {"schedule": "onecycle"},
        "onecycle_early": {"schedule": "onecycle", "onecycle_peak": 0.1},
        "step": {"schedule": "step", "step_milestones": (0.25, 0.5, 0.75), "step_gamma": 0.2},
        "multistep": {"schedule": "step"},
        "cosine": {"schedule": "cosine", "end_lr": 0.01},
    }.items(),
)
def test_rates_equal_torch(name, options):
    rate = optim.schedule({"lr": 0.1} | options, 100)
    np.testing.assert_allclose(jax.vmap(rate)(jnp.arange(100)), GOLDEN[f"rate/{name}"], rtol=1e-6)
    assert float(rate(7)) == pytest.approx(GOLDEN[f"rate/{name}"][7])  # a Python int will do


def test_cosine_with_warmup():
    rate = optim.schedule({"lr": 0.4, "schedule": "cosine", "warmup_steps": 10, "end_lr": 0.05}, 110)
    step = np.arange(110)
    cosine = 0.02 + 0.38 * (1 + np.cos(np.pi * (step - 10) / 100)) / 2
    expected = np.where(step < 10, 0.04 * step, cosine)
    np.testing.assert_allclose(jax.vmap(rate)(jnp.asarray(step)), expected, rtol=1e-6)


def test_warmup_under_milestones_leaves_them_where_they_are():
    rate = optim.schedule({"lr": 1.0, "schedule": "step", "step_milestones": [0.5], "warmup_steps": 4}, 10)
    np.testing.assert_allclose([rate(s) for s in range(10)], [0, 0.25, 0.5, 0.75, 1, 0.1, 0.1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_onecycle_is_finite_however_short(steps):
    rate = optim.schedule({"lr": 1.0, "schedule": "onecycle"}, steps)
    assert all(0 < float(rate(s)) <= 1 for s in range(steps))


def test_lars_against_the_paper():
    """v <- m v + lr eta |w| / |d| d with d = g + wd w; biases: momentum SGD without decay or trust ratio.

    The paper's denominator is |g| + wd |w|, which differs where gradient and weights are not parallel; SimCLR's is |d|.
    """
    lr, m, wd, eta = 0.02, 0.9, 0.1, 1e-3
    p = {k: GOLDEN[f"init/{k}"].copy() for k in ("w1", "b1", "w2", "b2")}
    v = {k: np.zeros_like(a) for k, a in p.items()}
    x, y = GOLDEN["x"], GOLDEN["y"]
    for _ in range(STEPS):
        h = np.tanh(x @ p["w1"] + p["b1"])
        dy = 2 * (h @ p["w2"] + p["b2"] - y) / len(x)
        dh = dy @ p["w2"].T * (1 - h**2)
        for k, g in {"w1": x.T @ dh, "b1": dh.sum(0), "w2": h.T @ dy, "b2": dy.sum(0)}.items():
            if k.startswith("w"):
                g = g + wd * p[k]
                g = g * eta * np.linalg.norm(p[k]) / np.linalg.norm(g)
            v[k] = m * v[k] + lr * g
        p = {k: p[k] - v[k] for k in p}
    got, _ = train({"name": "lars", "lr": lr, "weight_decay": wd})
    np.testing.assert_allclose(got["in"]["kernel"], p["w1"], atol=1e-9)
    np.testing.assert_allclose(got["in"]["bias"], p["b1"], atol=1e-9)


def test_lars_leaves_a_zero_tensor_trainable():
    p = {"kernel": jnp.zeros((2, 2))}
    tx = optim.make({"name": "lars", "lr": 0.1}, 5)
    updates, _ = tx.update({"kernel": jnp.ones((2, 2))}, tx.init(p), p)
    np.testing.assert_allclose(updates["kernel"], -0.1)


def one_update(options, groups=()):
    tx = optim.make(options | {"weight_decay": 0.1}, 5, groups)
    p = start()
    state = tx.init(p)
    return tx.update(jax.grad(loss)(p), state, p)


@pytest.mark.parametrize("name", optim.NAMES)
def test_a_group_s_factor_scales_its_update_alone(name):
    options = {"name": name, "lr": 0.02}
    whole, _ = one_update(options)
    groups = (("", 0.5), ("in/k", 0.1))  # the last that fits counts
    for updates, _ in (one_update(options | {"groups": groups}), one_update(options, groups)):
        np.testing.assert_allclose(updates["in"]["kernel"], 0.1 * whole["in"]["kernel"], rtol=1e-12)
        np.testing.assert_allclose(updates["in"]["bias"], 0.5 * whole["in"]["bias"], rtol=1e-12)
        np.testing.assert_allclose(updates["out"]["kernel"], 0.5 * whole["out"]["kernel"], rtol=1e-12)


@pytest.mark.parametrize("name", optim.NAMES)
def test_a_frozen_group_stays_bit_equal_and_has_no_memory(name):
    options = {"name": name, "lr": 0.02, "weight_decay": 0.1, "groups": (("in", 0.0),)}
    p, losses = train(options)
    assert all(map(np.array_equal, jax.tree.leaves(p["in"]), jax.tree.leaves(start()["in"])))
    assert losses[-1] < losses[0]
    shapes = {leaf.shape for leaf in jax.tree.leaves(one_update(options)[1])}
    assert start()["in"]["kernel"].shape not in shapes and start()["out"]["kernel"].shape in shapes


def test_a_frozen_group_has_no_share_in_the_clipped_norm():
    updates, _ = one_update({"name": "sgd", "lr": 1.0, "momentum": 0.0, "clip_norm": 1e-3, "groups": (("in", 0.0),)})
    decay = jax.tree.map(lambda w: 0.1 * w, start()["out"])
    clipped = jax.tree.map(lambda u, d: -u - d, updates["out"], decay)
    assert float(optax.tree.norm(clipped)) == pytest.approx(1e-3)


def test_a_prefix_that_nothing_starts_with_is_one_line():
    tx = optim.make({"groups": (("in", 0.1), ("haed", 1.0))}, 5)
    with pytest.raises(
        UserError, match=r"^optim.groups names 'haed', with which no parameter starts; there are in, out$"
    ):
        tx.init(start())


def test_is_weight():
    params = {
        "attention": {"query": {"kernel": jnp.zeros((4, 2, 2)), "bias": jnp.zeros((2, 2))}},
        "norm": {"scale": jnp.zeros(4), "bias": jnp.zeros(4)},
        "blocks": {"norm": {"scale": jnp.zeros((3, 4))}},  # stacked
        "position": jnp.zeros((1, 5, 4)),
    }
    assert optim.is_weight(params) == {
        "attention": {"query": {"kernel": True, "bias": False}},
        "norm": {"scale": False, "bias": False},
        "blocks": {"norm": {"scale": False}},
        "position": True,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adma"}, "config.optim.name='adma' must be one of adam, adamw, sgd, lars"),
        ({"schedule": "poly"}, "config.optim.schedule='poly' must be one of constant, step"),
        ({"decay_exclude": "bias"}, "config.optim.decay_exclude='bias' must be one of none, norm_bias"),
        ({"learning_rate": 0.1}, "config.optim.learning_rate is no option; choose from name, lr,"),
        ({"lr": -0.1}, "config.optim.lr=-0.1 must be a number of at least 0"),
        ({"lr": float("nan")}, "config.optim.lr=nan must be a number"),
        ({"lr": "0.1"}, "config.optim.lr='0.1' must be a number"),
        ({"weight_decay": None}, "config.optim.weight_decay=None must be a number"),
        ({"momentum": 1.0}, "config.optim.momentum=1.0 must be a number of at least 0 and below 1"),
        ({"warmup_steps": 10}, "config.optim.warmup_steps=10 must be a whole number below 10, the run's steps"),
        ({"schedule": "onecycle", "warmup_steps": 2}, "onecycle warms up by itself"),
        (
            {"step_milestones": (0.5, 60)},
            "config.optim.step_milestones=(0.5, 60) must be a tuple of one number or more, each between 0 and 1",
        ),
        ({"step_milestones": 0.5}, "config.optim.step_milestones=0.5 must be a tuple"),
        ({"lr": (0.1, 0.2)}, "config.optim.lr=(0.1, 0.2) must be a number"),
        (
            {"groups": (("head", -1.0),)},
            "config.optim.groups=(('head', -1.0),) must be a tuple of (path prefix, factor",
        ),
        ({"groups": ("head", 1.0)}, "config.optim.groups=('head', 1.0) must be a tuple of (path prefix, factor"),
        ({"groups": "head"}, "config.optim.groups='head' must be"),
        ({"groups": (("in", {"groups": ()}),)}, "config.optim.groups=(('in', {'groups': ()}),) must be"),
    ],
)
def test_bad_options_are_one_clear_line(options, message):
    for build in (optim.make, optim.schedule):
        with pytest.raises(UserError, match=r"^[^\n]*$") as error:
            build(options, 10)
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"lr": -1.0}, "config.optim.groups: in.lr=-1.0 must be a number of at least 0"),
        ({"rate": 1.0}, "config.optim.groups: in.rate is no option; choose from name, lr,"),
        ({"schedule": "exponential"}, "config.optim.groups: in.schedule=exponential never reaches end_lr=0"),
    ],
)
def test_bad_options_of_a_group_are_one_clear_line(own, message):
    with pytest.raises(UserError) as error:
        optim.make({"groups": (("in", own),)}, 10)
    assert str(error.value).startswith(message)


def test_masked_adam_is_dvgos():
    """Its kernel's formulas in a loop: nothing moves where the gradient is 0; eps beside the uncorrected root."""
    tx = optim.make({"name": "masked_adam", "lr": 0.1, "b1": 0.9, "b2": 0.99, "eps": 1e-3}, 50)
    params = {"w": jnp.zeros(3)}
    state, w, m, v = tx.init(params), np.zeros(3), np.zeros(3), np.zeros(3)
    gradients = np.random.default_rng(0).normal(size=(50, 3)) * (np.random.default_rng(1).random((50, 3)) < 0.6)
    for t, g in enumerate(gradients, 1):
        updates, state = tx.update({"w": jnp.asarray(g, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        on = g != 0
        m[on], v[on] = 0.9 * m[on] + 0.1 * g[on], 0.99 * v[on] + 0.01 * g[on] ** 2
        rate = 0.1 * np.sqrt(1 - 0.99**t) / (1 - 0.9**t)
        w[on] -= rate * m[on] / (np.sqrt(v[on]) + 1e-3)
    np.testing.assert_allclose(params["w"], w, rtol=1e-4)


def test_a_rate_per_voxel_is_a_change_of_units():
    """Adam on q with p = s q takes steps of s lr in p: DVGO's rate per voxel without an optimiser of its own."""
    scale, target = jnp.array([1.0, 0.25, 0.01]), jnp.array([3.0, -2.0, 1.0])
    tx = optim.make({"name": "masked_adam", "lr": 0.1, "b1": 0.9, "b2": 0.99, "eps": 0.0}, 20)
    q, state = jnp.zeros(3), tx.init(jnp.zeros(3))
    p, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    for t in range(1, 21):
        updates, state = tx.update(jax.grad(lambda q: ((scale * q - target) ** 2).sum())(q), state, q)
        q = optax.apply_updates(q, updates)
        g = 2 * (p - np.asarray(target))
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        p -= np.asarray(scale) * 0.1 * np.sqrt(1 - 0.99**t) / (1 - 0.9**t) * m / np.sqrt(v)
    np.testing.assert_allclose(scale * q, p, rtol=1e-4)


def test_the_exponential_schedule_is_a_line_in_the_logarithm():
    rate = optim.schedule({"schedule": "exponential", "lr": 2.0, "end_lr": 0.01}, 100)
    np.testing.assert_allclose([rate(0), rate(50), rate(100)], [2.0, 0.2, 0.02], rtol=1e-5)
    with pytest.raises(UserError, match="set it to a fraction"):
        optim.schedule({"schedule": "exponential"}, 100)


def test_the_linear_schedule_is_a_line():
    rate = optim.schedule({"schedule": "linear", "lr": 2.0, "end_lr": 0.1}, 100)
    np.testing.assert_allclose([rate(0), rate(50), rate(100)], [2.0, 1.1, 0.2], rtol=1e-6)
    assert float(optim.schedule({"schedule": "linear", "lr": 2.0}, 100)(100)) == 0


def test_the_inverse_schedule_is_a_line_in_the_reciprocal():
    """The course report's for cameras: it falls as 1 / t, from 1e-3 down to 1e-4."""
    rate = optim.schedule({"schedule": "inverse", "lr": 1e-3, "end_lr": 0.1}, 900)
    np.testing.assert_allclose([1 / rate(t) for t in (0, 100, 450, 900)], [1e3, 2e3, 5.5e3, 1e4], rtol=1e-6)
    with pytest.raises(UserError, match="schedule=inverse never reaches end_lr=0: set it to a fraction"):
        optim.schedule({"schedule": "inverse"}, 100)


@pytest.mark.parametrize("delay", [20, 0.2])
def test_a_delayed_schedule_begins_later_and_ends_with_the_run(delay):
    options = {"schedule": "exponential", "lr": 2.0, "end_lr": 0.01}
    rate = jax.jit(optim.schedule(options | {"delay": delay}, 100))
    assert [float(rate(t)) for t in (0, 19)] == [0, 0]
    np.testing.assert_allclose([rate(20), rate(60), rate(100)], [2.0, 0.2, 0.02], rtol=1e-5)
    with pytest.raises(UserError, match=r"config.optim.delay=100 must be a number below 100, the run's steps"):
        optim.schedule({"delay": 100}, 100)


def test_a_delayed_adam_begins_at_its_full_rate_and_no_faster():
    """Its moments begin with the run: those that began with the delay's zeros would be corrected too little."""
    tx = optim.make({"lr": 0.1, "delay": 10}, 50)
    p, state = {"w": jnp.zeros(3)}, tx.init({"w": jnp.zeros(3)})
    moved = []
    for _ in range(12):
        updates, state = tx.update({"w": jnp.array([1.0, -2.0, 3.0])}, state, p)
        moved.append(updates["w"])
    np.testing.assert_array_equal(moved[:10], 0)
    np.testing.assert_allclose(moved[10:], np.tile([-0.1, 0.1, -0.1], (2, 1)), rtol=1e-5)


def test_groups_of_the_options_may_lie_below_a_path():
    tx = optim.make({"name": "sgd", "lr": 1.0, "momentum": 0.0, "groups": (("w", 0.5),)}, 5, (("c", 2.0),), "field/")
    p = {"c": jnp.zeros(2), "field": {"w": jnp.zeros(2), "c": jnp.zeros(2)}}
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, p), tx.init(p), p)
    assert (float(updates["c"][0]), float(updates["field"]["w"][0]), float(updates["field"]["c"][0])) == (-2, -0.5, -1)


@pytest.mark.parametrize("name", optim.NAMES)
def test_a_group_with_options_has_an_optimiser_of_its_own(name):
    """Its parameters move as if they were alone with those options, and the others as if it were not there."""
    own = {"name": "sgd", "lr": 0.5, "schedule": "step", "step_milestones": (0.4,), "momentum": 0.5}
    shared = {"name": name, "lr": 0.02, "weight_decay": 0.1}
    tx = optim.make(shared | {"groups": (("in", own),)}, 10)
    alone = {"in": optim.make(shared | own, 10), "out": optim.make(shared, 10)}
    p = start()
    state = tx.init(p)
    states = {part: tx_.init({part: p[part]}) for part, tx_ in alone.items()}
    for _ in range(6):
        gradient = jax.grad(loss)(p)
        updates, state = tx.update(gradient, state, p)
        for part, tx_ in alone.items():
            expected, states[part] = tx_.update({part: gradient[part]}, states[part], {part: p[part]})
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), updates[part], expected[part])
        p = optax.apply_updates(p, updates)


def test_growth_restarts_only_the_moments_whose_shapes_changed():
    """Those of the other parameters go on exactly, and so does the rate."""
    options = {"name": "masked_adam", "lr": 0.1, "schedule": "exponential", "end_lr": 0.1}
    tx, p = optim.make(options, 50), {"grid": jnp.ones((4, 1)), "network": jnp.ones(3)}
    state = tx.init(p)
    for i in range(7):
        _, state = tx.update(jax.tree.map(lambda a, i=i: jnp.full(a.shape, i + 1.0), p), state, p)
    grown = {"grid": jnp.ones((9, 1)), "network": p["network"]}
    restarted = optim.restart(tx, grown, p, state)
    gradient = jax.tree.map(jnp.ones_like, grown)
    updates, _ = tx.update(gradient, restarted, grown)
    went_on, _ = tx.update({"grid": jnp.ones((4, 1)), "network": jnp.ones(3)}, state, p)
    np.testing.assert_array_equal(updates["network"], went_on["network"])
    np.testing.assert_allclose(updates["grid"], -float(optim.schedule(options, 50)(7)), rtol=1e-6)  # a first step


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lars"])
def test_growth_never_corrects_new_moments_by_an_old_count(name):
    """Optax's Adam counts the steps of all its moments together: there, all of them start anew."""
    options = {"name": name, "lr": 0.1}
    tx, p = optim.make(options, 50), {"grid": jnp.ones((4, 1)), "network": jnp.ones((3, 1))}
    state = tx.init(p)
    for _ in range(30):
        _, state = tx.update(jax.tree.map(jnp.ones_like, p), state, p)
    grown = {"grid": jnp.ones((9, 1)), "network": p["network"]}
    restarted = optim.restart(tx, grown, p, state)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, grown), restarted, grown)
    new, _ = tx.update(jax.tree.map(jnp.ones_like, grown), tx.init(grown), grown)
    np.testing.assert_allclose(updates["grid"], new["grid"], rtol=1e-6)
    assert jax.tree.structure(restarted) == jax.tree.structure(tx.init(grown))
