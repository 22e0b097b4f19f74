import json
import os
import signal

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import checkpoint, metrics, process, start, train, version
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.state import Variables
from jaxhw.tree import by_name
from tests.toy import Toy, final_state, toy_config


class Signalled(Toy):
    """Sends itself a signal in the evaluation after step ``at``."""

    at, number, evaluations = 12, signal.SIGTERM, 0

    def evaluate(self, variables, step):
        self.evaluations += 1
        if self.evaluations * self.config.eval_every == self.at:
            os.kill(os.getpid(), self.number)
        return super().evaluate(variables, step)


def run(workdir, kind=Toy, devices=1, **changes):
    config, mesh = toy_config(**changes), meshes.make_mesh(devices)
    results = train.run(kind(config, mesh), config, mesh, workdir)
    return results, metrics.read(workdir / "metrics.jsonl")


def without_clock(lines):
    return [{k: v for k, v in line.items() if k not in ("time", "rows_per_second")} for line in lines]


def assert_same(a, b):
    key = lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(key(x), key(y))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    results, lines = run(workdir, optim={"ema": 0.9})
    return workdir, results, lines


def test_it_learns_and_reports(whole):
    workdir, results, lines = whole
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 6 and losses[-1] < 0.5 * losses[0]
    assert [line["step"] for line in lines if "val_error" in line] == [4, 8, 12, 16, 20, 24, 28, 30]
    saved = json.loads((workdir / "results.json").read_text())
    assert saved == results and saved["steps"] == 30 and saved["seed"] == 0 and saved["parameters"] == 4
    assert {"config.json", "scene.json", "tensorboard", "checkpoints"} <= {p.name for p in workdir.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_continues_bit_for_bit(whole, tmp_path, number):
    """12 steps, a signal, 18 steps: the same lines and the same state as 30 steps."""
    kind = type("Stop", (Signalled,), {"number": number})
    results, lines = run(tmp_path, kind, optim={"ema": 0.9})
    assert results == {} and lines[-1]["step"] == 12 and not (tmp_path / "results.json").exists()
    assert int(final_state(tmp_path)["step"]) == 12
    results, lines = run(tmp_path, optim={"ema": 0.9})
    assert results["steps"] == 30
    assert without_clock(lines) == without_clock(whole[2])
    assert_same(final_state(tmp_path), final_state(whole[0]))


def test_the_clock_goes_on_after_a_stop(tmp_path):
    kind = type("Stop", (Signalled,), {"at": 8})
    _, before = run(tmp_path, kind)
    results, after = run(tmp_path)
    assert after[: len(before)] == before and after[len(before)]["time"] >= before[-1]["time"]
    assert results["seconds"] >= round(before[-1]["time"], 1)


def test_the_clock_counts_steps_that_no_line_tells_of(tmp_path):
    _, before = run(tmp_path, type("Stop", (Signalled,), {"at": 8}))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({**before[0], "time": 0.0}) + "\n")
    _, after = run(tmp_path)
    assert after[1]["time"] >= before[-1]["time"] - 0.01


class Torn(Toy):
    """A batch that cannot be made, of pictures on a disk say."""

    def batch(self, step):
        if step == 9:
            raise UserError("cat.jpg cannot be read")
        return super().batch(step)


def test_a_batch_that_cannot_be_made_ends_the_run_and_loses_nothing(tmp_path, whole):
    for _ in range(2):
        with pytest.raises(UserError, match=r"cat.jpg cannot be read"):
            run(tmp_path, Torn, optim={"ema": 0.9})
        assert checkpoint.Checkpoints(tmp_path).latest() == 9
    _, lines = run(tmp_path, optim={"ema": 0.9})
    assert without_clock(lines) == without_clock(whole[2])


def test_lines_after_the_last_checkpoint_are_written_once(whole, tmp_path):
    """What kill -9 leaves: lines beyond the checkpoint and a torn one. They are dropped and come again, equal."""
    run(tmp_path, type("Stop", (Signalled,), {"at": 20}), optim={"ema": 0.9})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 25, "time": 9, "loss": 123.0}\n{"step": 30, "ti')
    _, lines = run(tmp_path, optim={"ema": 0.9})
    assert without_clock(lines) == without_clock(whole[2])


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(whole, tmp_path, capsys):
    """They are trained again, and the run ends as the undisturbed one does, bit for bit."""
    run(tmp_path, type("Stop", (Signalled,), {"at": 20}), optim={"ema": 0.9})
    numbers = next(path for path in (tmp_path / "checkpoints" / "step_20" / "default" / "d").iterdir())
    data = bytearray(numbers.read_bytes())
    data[-1] ^= 1
    numbers.write_bytes(data)
    capsys.readouterr()
    _, lines = run(tmp_path, optim={"ema": 0.9})
    told = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(told) == 1 and "step_20 is damaged" in told[0] and "step_18 is read in its place" in told[0]
    assert without_clock(lines) == without_clock(whole[2])
    assert_same(final_state(tmp_path), final_state(whole[0]))
    assert (tmp_path / "checkpoints" / "damaged_step_20").is_dir()


def test_a_finished_run_is_left_alone(whole, monkeypatch):
    workdir, results, lines = whole
    monkeypatch.setattr(version, "revision", lambda: "that of another day")
    again, lines_again = run(workdir, optim={"ema": 0.9})
    assert lines_again == lines and again == results
    assert json.loads((workdir / "results.json").read_text()) == results


@pytest.mark.parametrize("devices", [1, 8])
def test_the_step_is_compiled_once(tmp_path, caplog, devices):
    with jax.log_compiles():
        run(tmp_path, devices=devices)
    assert sum("Compiling jit(step)" in record.getMessage() for record in caplog.records) == 1


def test_the_step_donates_its_state():
    config, mesh = toy_config(), meshes.make_mesh(1)
    task = Toy(config, mesh)
    state = start.begin(task, config, mesh, task.init(jax.random.key(0)))
    train.make_step(task, config, mesh)(state, meshes.put_rows(task.batch(0), mesh))
    assert state.params["w"].is_deleted()


def fetches(monkeypatch, workdir, steps):
    """How often a run that logs, evaluates and saves at its end only has a device's array brought to the host."""
    seen = []

    def counted(function):
        return lambda *args, **kwargs: (seen.append(function), function(*args, **kwargs))[1]

    with monkeypatch.context() as patch:
        patch.setattr(jax, "device_get", counted(jax.device_get))
        kind = type(jnp.zeros(()))
        for name in ("__array__", "__bool__", "__float__", "__index__", "__int__", "item", "tolist"):
            patch.setattr(kind, name, counted(getattr(kind, name)))
        run(workdir, steps=steps, log_every=100, eval_every=100, checkpoint_every=100)
    return len(seen)


@pytest.mark.parametrize("waits", [False, True])
def test_no_step_waits_for_the_host(tmp_path, monkeypatch, waits):
    """What a run fetches does not depend on its length, but where each step's loss is looked at (which must show)."""
    if waits:
        make_step = train.make_step

        def looking(*args):
            step = make_step(*args)
            return lambda *args: (result := step(*args), float(result[1]))[0]

        monkeypatch.setattr(train, "make_step", looking)
    short, long = (fetches(monkeypatch, tmp_path / str(steps), steps) for steps in (3, 9))
    assert short > 0 and long - short == (6 if waits else 0)


def test_eight_devices_give_what_one_gives(tmp_path):
    _, one = run(tmp_path / "one")
    _, eight = run(tmp_path / "eight", devices=8)
    for a, b in zip(without_clock(one), without_clock(eight), strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5)


def test_a_run_moves_to_another_number_of_devices(whole, tmp_path):
    run(tmp_path, type("Stop", (Signalled,), {"at": 8}), optim={"ema": 0.9})
    _, lines = run(tmp_path, devices=4, optim={"ema": 0.9})
    assert lines[-1]["val_error"] == pytest.approx(whole[2][-1]["val_error"], rel=1e-4)


class Warm(Toy):
    """Starts at the weights that the file `init_from` holds."""

    def init_from(self, shapes):
        assert shapes.params["w"].shape == (4,)
        if not os.path.exists(self.config.init_from):
            raise UserError(f"{self.config.init_from} does not exist")
        return {"params": {"w": np.load(self.config.init_from)}}


def test_init_from_replaces_the_start_once(tmp_path):
    source, workdir = tmp_path / "w.npy", tmp_path / "run"
    np.save(source, np.arange(4.0))
    frozen = {"ema": 0.9, "groups": (("w", 0.0),)}
    stops = type("Stop", (Signalled, Warm), {"at": 8})
    assert run(workdir, stops, init_from=str(source), optim=frozen)[0] == {}
    state = final_state(workdir)
    for tree in (state, state["ema"]):
        np.testing.assert_array_equal(tree["params"]["w"], np.arange(4.0))
    assert state["model_state"]["seen"] == 8
    source.unlink()  # a run that resumes does not read it
    results, _ = run(workdir, Warm, init_from=str(source), optim=frozen)
    assert results["val_error"] == 0


def test_what_init_from_lacks_is_said_before_anything_is_written(tmp_path):
    for kind, message in ((Warm, "nowhere does not exist"), (Toy, "Toy starts from no other run")):
        with pytest.raises(UserError, match=message):
            run(tmp_path / "run", kind, init_from="nowhere")
    with pytest.raises(UserError, match=r"optim\.groups names 'v'"):
        run(tmp_path / "run", optim={"groups": (("v", 0.0),)})
    assert not (tmp_path / "run").exists()


def test_prepare_sees_the_variables_that_the_run_starts_and_resumes_with(tmp_path):
    steps = []
    prepare = lambda self, variables, workdir: steps.append(int(variables.model_state["seen"]))
    run(tmp_path, type("Stop", (Signalled,), {"at": 8, "prepare": prepare}))
    run(tmp_path, type("Prepared", (Toy,), {"prepare": prepare}))
    assert steps == [0, 8]


def test_nan_names_the_step_and_the_good_checkpoint(tmp_path):
    kind = type("Nan", (Toy,), {"nan_from": 20})
    with pytest.raises(UserError, match=r"not finite at step 21; the last good checkpoint is .*step_18;") as caught:
        run(tmp_path, kind)
    assert "\n" not in str(caught.value)
    assert int(final_state(tmp_path)["step"]) == 18


def test_nan_before_any_checkpoint(tmp_path):
    with pytest.raises(UserError, match="not finite at step 2; there is no good checkpoint"):
        run(tmp_path, type("Nan", (Toy,), {"nan_from": 1}))


def test_a_checkpoint_is_good_if_the_step_after_it_is(tmp_path):
    """What step 19 starts from has no finite loss: the checkpoint after step 18 goes."""
    with pytest.raises(train.Diverged, match=r"not finite at step 19; the last good checkpoint is .*step_12;"):
        run(tmp_path, type("Nan", (Toy,), {"nan_from": 18}))
    assert int(final_state(tmp_path)["step"]) == 12


@pytest.mark.parametrize("steps", [1, 30])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, steps):
    """The first update throws them out, and of one step no other tells."""
    huge = {"name": "sgd", "lr": 1e30}
    for _ in range(2):
        with pytest.raises(train.Diverged, match="weights are not finite after step 1; there is no good checkpoint"):
            run(tmp_path, steps=steps, checkpoint_every=1, eval_every=1, optim=huge)
        assert not checkpoint.exists(tmp_path) and not (tmp_path / "results.json").exists()
        assert not any("val_error" in line for line in metrics.read(tmp_path / "metrics.jsonl"))


def test_a_workdir_of_another_config_is_refused(whole):
    workdir, _, lines = whole
    with pytest.raises(UserError, match=r"another config \(optim.ema: 0.9 there, 0.0 here; seed: 0 there, 1 here\)"):
        run(workdir, seed=1)
    assert metrics.read(workdir / "metrics.jsonl") == lines


@pytest.mark.parametrize(("name", "value"), [("log_every", 0), ("eval_every", -1), ("checkpoint_every", -5)])
def test_intervals_are_checked_before_anything_is_written(tmp_path, name, value):
    with pytest.raises(UserError, match=f"config.{name}={value} must be a whole number of at least"):
        run(tmp_path / "run", **{name: value})
    assert not (tmp_path / "run").exists()


def test_the_average_of_the_weights_holds_the_model_state_too(whole):
    """The toy's counts its steps: 1, 2, ... 30, averaged from 0 with the decay min(0.9, (1 + t) / (10 + t))."""
    average = 0.0
    for t in range(30):
        average += (1 - min(0.9, (1 + t) / (10 + t))) * (t + 1 - average)
    state = final_state(whole[0])
    assert float(state["model_state"]["seen"]) == 30
    assert float(state["ema"]["model_state"]["seen"]) == pytest.approx(average, rel=1e-5)


def test_ema_follows_the_closed_form(tmp_path):
    """With a decay of 0.5 from step 8 on, and (1 + t) / (10 + t) before."""
    from jaxhw.state import update_ema

    ema, value = {"w": np.float32(0)}, 0.0
    for t in range(20):
        ema = update_ema(ema, {"w": np.float32(t)}, 0.5, np.int32(t))
        d = min(0.5, (1 + t) / (10 + t))
        value = d * value + (1 - d) * t
    assert float(ema["w"]) == pytest.approx(value, rel=1e-5)


class Followed(Toy):
    """Keeps the mean of its parameters after every step."""

    def init(self, rng):
        variables = super().init(rng)
        return variables.replace(model_state={**variables.model_state, "mean": jnp.zeros(4)})

    def loss(self, params, model_state, batch, context):
        loss, (state, numbers) = super().loss(params, model_state, batch, context)
        return loss, (model_state | state, numbers)

    def after_update(self, variables, context):
        state = variables.model_state
        mean = state["mean"] + (variables.params["w"] - state["mean"]) / (context.step + 1)
        return {**state, "mean": mean}


def test_what_follows_the_parameters_sees_them_updated():
    config, mesh = toy_config(), meshes.make_mesh(1)
    task, seen = Followed(config, mesh), []
    state = start.begin(task, config, mesh, task.init(jax.random.key(0)))
    step = train.make_step(task, config, mesh)
    for i in range(3):
        state, _ = step(state, meshes.put_rows(task.batch(i), mesh))
        seen.append(np.asarray(state.params["w"]))
    np.testing.assert_allclose(state.model_state["mean"], np.mean(seen, 0), rtol=1e-6)
    assert float(state.model_state["seen"]) == 3


@flax.struct.dataclass
class Weights:
    w: jax.Array


def test_types_that_a_checkpoint_would_lose_are_refused_before_the_first_step(tmp_path):
    """Else the run would train to its end, and nothing could read what it has learnt."""

    class Typed(Toy):
        def init(self, rng):
            return Variables(Weights(jax.random.normal(rng, (4,))), {"seen": jnp.zeros(())})

        def loss(self, params, model_state, batch, context):
            return super().loss({"w": params.w}, model_state, batch, context)

        def evaluate(self, variables, step):
            return super().evaluate(Variables({"w": variables.params.w}, {}), step)

    class Restored(Typed):
        def from_saved(self, saved):
            return Variables(Weights(**saved.params), saved.model_state)

    with pytest.raises(TypeError, match=r"Typed\.from_saved must give back the types"):
        run(tmp_path / "lost", Typed)
    assert not (tmp_path / "lost").exists()
    assert run(tmp_path / "kept", type("Stop", (Signalled, Restored), {"at": 8}))[0] == {}
    assert run(tmp_path / "kept", Restored)[0]["val_error"] == run(tmp_path / "whole", Restored)[0]["val_error"]


class Slow(Toy):
    """Evaluates in parts, as tasks do; asks itself to stop between two of them, once for each step of ``at``."""

    at: tuple[int, ...] = ()
    asked: set

    def evaluate(self, variables, step):
        for part in range(3):
            process.check_stop()
            if part == 1 and step in self.at and step not in self.asked:
                self.asked.add(step)
                os.kill(os.getpid(), signal.SIGTERM)
        return super().evaluate(variables, step)

    def finish(self, variables, workdir):
        return {**self.evaluate(variables, 1000), "finished": True}


@pytest.mark.parametrize("at", [(8,), (30,), (1000,), (4, 30, 1000)], ids=str)
def test_a_stop_cuts_an_evaluation_or_the_finish_short_and_the_next_start_does_it_again(whole, tmp_path, at):
    """Evaluations come every 4 steps and at the last; 1000 is that of the finish."""
    kind = type("Slow", (Slow,), {"at": at, "asked": set()})
    for stop in at:
        results, lines = run(tmp_path, kind, optim={"ema": 0.9})
        assert results == {} and all(line["step"] <= stop for line in lines)
        assert int(final_state(tmp_path)["step"]) == min(stop, 30)
    results, lines = run(tmp_path, kind, optim={"ema": 0.9})
    assert results["finished"] and results["val_error"] == whole[1]["val_error"]
    assert without_clock(lines) == without_clock(whole[2])


class Looking(train.Observer):
    """Keeps what it is told, and copies of the weights."""

    def __init__(self):
        self.weights, self.told, self.closed = {}, [], 0

    def after_step(self, step, snapshot):
        if step % 7 == 0:
            self.weights[step] = snapshot().params["w"]

    def after_log(self, step, numbers):
        self.told.append((step, "loss" in numbers))

    def after_evaluation(self, step, numbers):
        self.told.append((step, "val_error" in numbers))


def test_observers_see_snapshots_between_steps_and_change_nothing(tmp_path):
    """Their copies outlive the buffers, which the next step takes."""
    observer, config, mesh = Looking(), toy_config(), meshes.make_mesh(1)
    looked_on = train.run(Toy(config, mesh), config, mesh, tmp_path / "observed", (observer,))
    alone = train.run(Toy(config, mesh), config, mesh, tmp_path / "alone")
    assert looked_on["val_error"] == alone["val_error"]
    assert list(observer.weights) == [7, 14, 21, 28] and len({float(w[0]) for w in observer.weights.values()}) == 4
    assert all(told for _, told in observer.told) and {step for step, _ in observer.told} >= {4, 5, 8, 10, 30}


def test_an_observer_may_end_a_run(tmp_path):
    class Enough(Exception):
        pass

    class Ending(train.Observer):
        def after_evaluation(self, step, numbers):
            if step == 8:
                raise Enough

    config, mesh = toy_config(), meshes.make_mesh(1)
    with pytest.raises(Enough):
        train.run(Toy(config, mesh), config, mesh, tmp_path, (Ending(),))
    assert metrics.read(tmp_path / "metrics.jsonl")[-1]["step"] == 8


class Wide(Toy):
    """Eight weights, which eight devices can divide."""

    def init(self, rng):
        return Variables({"w": jax.random.normal(rng, (8,)), "b": jnp.zeros(3)}, {"seen": jnp.zeros(())})

    def loss(self, params, model_state, batch, context):
        w = params["w"].reshape(2, 4).sum(0)
        loss, (state, numbers) = super().loss({"w": w}, model_state, batch, context)
        return loss + (params["b"] ** 2).sum(), (state, numbers)

    def evaluate(self, variables, step):
        assert step == 0 or variables.params["w"].sharding.spec == self.spec
        error = float(jnp.abs(variables.params["w"].reshape(2, 4).sum(0) - jnp.arange(4.0)).max())
        return {"val_error": error, "val_score": -error}


def test_divided_parameters_give_what_whole_ones_give(tmp_path):
    """With moments beside their parameters, over a stop, and without compiling the step anew."""
    options = {"mesh": {"layout": (("/w", 0),)}, "optim": {"ema": 0.5}}
    divided = type("Divided", (Wide,), {"spec": jax.sharding.PartitionSpec("data")})
    assert run(tmp_path / "divided", type("Stop", (Signalled, divided), {"at": 12}), devices=8, **options)[0] == {}
    _, lines = run(tmp_path / "divided", divided, devices=8, **options)
    whole = type("Whole", (Wide,), {"spec": jax.sharding.PartitionSpec()})
    _, wanted = run(tmp_path / "whole", whole, devices=8, optim={"ema": 0.5})
    for a, b in zip(lines, wanted, strict=True):
        same = [name for name in a if name not in ("time", "rows_per_second")]
        np.testing.assert_allclose([a[name] for name in same], [b[name] for name in same], rtol=1e-5)


def test_the_step_of_divided_parameters_is_compiled_once():
    config, mesh = toy_config(mesh={"layout": (("/w", 0),)}), meshes.make_mesh(8)
    traces = []

    class Traced(Wide):
        def loss(self, *args):
            traces.append(1)
            return super().loss(*args)

    task = Traced(config, mesh)
    state = start.begin(task, config, mesh, jax.device_get(task.init(jax.random.key(0))))
    step = train.make_step(task, config, mesh)
    for i in range(4):
        state, _ = step(state, meshes.put_rows(task.batch(i), mesh))
    assert len(traces) == 1
    moments = [leaf for name, leaf in by_name(state.opt_state).items() if name.endswith("/w")]
    assert len(moments) == 2 and all(tuple(leaf.sharding.spec) == ("data",) for leaf in moments)
