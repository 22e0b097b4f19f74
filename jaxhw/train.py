"""The one training loop: step, log, evaluate, checkpoint, stop. It knows no image and no ray."""

import contextlib
import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import checkpoint, files, metrics, optim, start
from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.prefetch import Prefetcher
from jaxhw.process import StopRequest
from jaxhw.state import Averages, TrainState, update_ema
from jaxhw.task import Task

PyTree = Any
Watch = Callable[[int, dict[str, float]], None]


def make_step(task: Task, options: ConfigDict) -> Callable[[TrainState, PyTree], tuple[TrainState, jax.Array]]:
    """The training step, jitted: (state, batch) -> (state, [] loss). The state's buffers are donated.

    The batch is divided over the mesh and the program is written for one big device, so that means over the
    batch, batch statistics among them, are global.
    """
    tx = start.optimiser(task, options)
    after_update = getattr(task, "after_update", lambda params, model_state, step: model_state)

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, jax.Array]:
        rng = jax.random.fold_in(state.rng, state.step)
        value = jax.value_and_grad(task.loss, has_aux=True)
        (loss, (model_state, numbers)), grads = value(state.params, state.model_state, batch, rng)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        model_state = after_update(params, model_state, state.step)
        new = {"params": params, "model_state": model_state}
        ema = update_ema(state.ema, new, options.ema, state.step) if options.ema else None
        averages = state.averages.add(numbers, state.step)
        return TrainState(state.step + 1, params, model_state, opt_state, state.rng, averages, ema), loss

    return jax.jit(step, donate_argnums=0)


class Diverged(UserError):
    """The loss or the weights are not finite any more."""


def run(
    task: Task,
    config: ConfigDict,
    mesh: Mesh,
    workdir: Path,
    watch: Watch | None = None,
    stop: StopRequest | None = None,
) -> dict[str, Any]:
    """Trains until ``task.steps``, from the newest checkpoint in ``workdir`` if there is one.

    Args:
      watch: called with (step, numbers) after each evaluation; what it raises ends the run.
      stop: that of a caller who has more to do after this run and must know if it was asked to stop; else its own.

    Returns:
      The contents of results.json, those that are there if the run is finished; empty when the run was asked to stop
      (SIGTERM, Ctrl-C) and has saved itself.

    Raises:
      Diverged: the loss or the weights are not finite.
      UserError: the workdir belongs to another config, the disk is full.
    """
    began = time.perf_counter()
    abstract = check(config, task)
    weights = start.pretrained(task, config, abstract, workdir)
    first = jax.process_index() == 0
    if first:
        configs.claim(workdir, config, ignore=configs.FREE)
    if (workdir / "results.json").exists():
        return json.loads((workdir / "results.json").read_text())
    if first:
        task.describe(workdir)
    checkpoints = checkpoint.Checkpoints(workdir)
    state = start.begin(task, config, mesh, checkpoints, abstract)
    state = start.replace(state, weights, mesh) if weights else state
    if hasattr(task, "prepare"):
        task.prepare(state.variables, workdir)
    done = int(state.step)
    writer = metrics.Writer(workdir, done) if first else metrics.Silent()
    writer.elapsed = max(writer.elapsed, checkpoints.seconds())  # the last line may be older than the checkpoint
    began -= writer.elapsed
    bar = metrics.progress(task.steps, done, config.batch_size, task.unit, show=first)
    with contextlib.ExitStack() as closing:
        for closable in (checkpoints, writer, bar):
            closing.callback(closable.close)
        stop = stop or closing.enter_context(StopRequest())
        loop = _Loop(task, config, mesh, checkpoints, writer, bar, began, stop, watch)
        state = loop.run(state, done)
        checkpoints.wait()
        if int(state.step) < task.steps:
            bar.write(f"stopped at step {int(state.step)} of {task.steps}; the same command continues from there")
            return {}
        return _finish(task, config, mesh, state, workdir, time.perf_counter() - began)


@dataclasses.dataclass
class _Loop:
    """The steps between restoring and finishing, and what happens every so many of them."""

    task: Task
    config: ConfigDict
    mesh: Mesh
    checkpoints: checkpoint.Checkpoints
    writer: metrics.Writer | metrics.Silent
    bar: metrics.Bar
    began: float  # on time.perf_counter's clock, moved back by the time of earlier runs
    stop: StopRequest
    watch: Watch | None

    def __post_init__(self):
        self.schedule = optim.schedule(self.config.optim, self.task.steps)
        epoch = max(1, round(self.task.steps_per_epoch))
        self.eval_every = self.config.eval_every or epoch
        self.checkpoint_every = self.config.checkpoint_every or epoch
        self.stages = start.stages(self.task)
        self.finite = jax.jit(getattr(self.task, "finite", _finite))
        self.zeros = meshes.on_mesh(lambda: Averages.zeros(self.task.metric_names), self.mesh)

    def run(self, state: TrainState, first: int) -> TrainState:
        step = make_step(self.task, self.config.optim)
        running: deque[jax.Array] = deque()
        self.logged_at, self.logged_step = time.perf_counter(), first
        with Prefetcher(lambda i: meshes.put_rows(self.task.batch(i), self.mesh), first, self.task.steps) as batches:
            batches = iter(batches)
            for done in range(first + 1, self.task.steps + 1):
                batch = self._next(batches, state, done - 1, first)
                if done - 1 in self.stages:
                    state = self._grow(state, done - 1)
                state, loss = step(state, batch)
                running.append(loss)
                if len(running) > 2:  # let the host run ahead by two steps, not by the whole epoch
                    running.popleft().block_until_ready()
                if done == first + 1:
                    loss.block_until_ready()
                    self.bar.unpause()  # the time left does not count the compilation
                    self.bar.write(f"first step after {time.perf_counter() - self.began - self.writer.elapsed:.1f} s")
                self.bar.update(self.config.batch_size)
                state = self.after(state, done)
                if self._stops(done):
                    self._save(state, done)
                    break
        return state

    def _next(self, batches: Iterator[PyTree], state: TrainState, done: int, first: int) -> PyTree:
        """The next batch; if it cannot be made (of a picture that cannot be read, say), the state is saved first."""
        try:
            return next(batches)
        except UserError:
            if done > first and jax.process_count() == 1:
                self._save(state, done)
                self.checkpoints.wait()
            raise

    def _grow(self, state: TrainState, done: int) -> TrainState:
        self._check_weights(state)
        started = time.perf_counter()
        state = start.grow(self.task, self.config.optim, state, self.stages.index(done) + 1, self.mesh)
        self.logged_at += time.perf_counter() - started
        return state

    def after(self, state: TrainState, done: int) -> TrainState:
        if self._due(done, self.config.log_every):
            state = self._log(state, done)
        if self._due(done, self.eval_every):
            self._evaluate(state, done)
        if self._due(done, self.checkpoint_every):
            self._save(state, done)
        return state

    def _stops(self, done: int) -> bool:
        """Whether to stop now; several processes agree on it only where all of them meet, at every log."""
        if jax.process_count() == 1:
            return self.stop.asked
        return self._due(done, self.config.log_every) and meshes.any_process(self.stop.asked)

    def _due(self, done: int, every: int) -> bool:
        return done % every == 0 or done == self.task.steps

    def _log(self, state: TrainState, done: int) -> TrainState:
        self._check_finite(state)
        averages = jax.device_get(state.averages)
        numbers = {name: float(value / averages.count) for name, value in averages.sums.items()}
        now = time.perf_counter()
        numbers["lr"] = float(self.schedule(done - 1))
        rate = (done - self.logged_step) * self.config.batch_size / (now - self.logged_at)
        numbers[f"{self.task.unit}_per_second"] = rate
        self._write(done, numbers)
        self.bar.set_postfix(loss=f"{numbers['loss']:.3f}", refresh=False)
        self.logged_at, self.logged_step = time.perf_counter(), done
        return state.replace(averages=jax.tree.map(jnp.copy, self.zeros))

    def _evaluate(self, state: TrainState, done: int) -> None:
        self._check_weights(state)
        started = time.perf_counter()
        numbers = self.task.evaluate(state.variables, done)
        self._write(done, numbers)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        self.bar.write(f"step {done}  epoch {done / self.task.steps_per_epoch:.1f}  {shown}")
        if self.watch:
            self.watch(done, numbers)
        self.logged_at += time.perf_counter() - started  # the throughput is that of training alone

    def _save(self, state: TrainState, done: int) -> None:
        self._check_weights(state)
        started = time.perf_counter()
        self.checkpoints.save(done, state, started - self.began)
        self.logged_at += time.perf_counter() - started

    def _write(self, done: int, numbers: dict[str, float]) -> None:
        epoch = {"epoch": done / self.task.steps_per_epoch}
        self.writer.write(done, time.perf_counter() - self.began, epoch | numbers)

    def _check_finite(self, state: TrainState) -> None:
        bad = int(state.averages.bad_step)
        if bad >= 0:
            self.checkpoints.drop(bad)  # the loss is that of the weights before the step
            raise self._diverged(f"the loss is not finite at step {bad + 1}")

    def _check_weights(self, state: TrainState) -> None:
        """What the last update made of the weights shows in the next step's loss only; here it must be known now."""
        self._check_finite(state)
        if not self.finite(state.params):
            raise self._diverged(f"the weights are not finite after step {int(state.step)}")

    def _diverged(self, what: str) -> Diverged:
        self.checkpoints.wait()
        good = self.checkpoints.path()
        saved = f"the last good checkpoint is {good}" if good else "there is no good checkpoint before it"
        return Diverged(f"{what}; {saved}; lower optim.lr or set optim.clip_norm")


def _finite(params: PyTree) -> jax.Array:
    """[] bool: whether the parameters' norm is finite; where it overflows, no loss would be finite either."""
    return jnp.isfinite(optax.tree.norm(params))


def check(config: ConfigDict, task: Task) -> TrainState:
    """Refuses bad options before anything is written; returns the state's shapes."""
    for name, least in (("log_every", 1), ("eval_every", 0), ("checkpoint_every", 0)):
        if config[name] < least:
            raise UserError(f"config.{name}={config[name]} must be at least {least}")
    return jax.eval_shape(lambda: start.init_state(task, config, jax.random.key(config.seed)))


def _finish(task, config, mesh, state, workdir: Path, seconds: float) -> dict[str, Any]:
    results = {
        "task": config.task,
        "seed": config.seed,
        "steps": task.steps,
        "epochs": round(task.steps / task.steps_per_epoch, 3),
        "seconds": round(seconds, 1),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "devices": f"{mesh.size} x {jax.devices()[0].device_kind}",
        "revision": metrics.revision(),
        **task.finish(state.variables, workdir),
    }
    if jax.process_index() == 0:
        files.write(workdir / "results.json", json.dumps(results, indent=2) + "\n")
    return results
