"""The one training loop: step, log, evaluate, checkpoint, stop. It knows no image and no ray."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import checkpoint, claims, contents, files, json_file, lock, metrics, optim, start, version
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.maintenance import Notice
from jaxhw.observer import Observer
from jaxhw.options import at_least, require
from jaxhw.prefetch import Prefetcher
from jaxhw.process import Stopped, StopRequest
from jaxhw.progress import Progress
from jaxhw.start import Refused
from jaxhw.state import Averages, TrainState
from jaxhw.step import make_step
from jaxhw.task import Task
from jaxhw.wishes import SAVE, STOP, Wishes

__all__ = ["Diverged", "Observer", "Refused", "check", "make_step", "run"]

PyTree = Any


class Diverged(UserError):
    """The loss or the weights are not finite any more."""


def run(
    task: Task,
    config: ConfigDict,
    mesh: Mesh,
    workdir: Path,
    observers: Sequence[Observer] = (),
    stop: StopRequest | None = None,
) -> dict[str, Any]:
    """Trains until ``task.steps``, from the newest checkpoint in ``workdir`` if there is one.

    Args:
      observers: they look on; what one of them raises ends the run.
      stop: that of a caller who has more to do after this run and must know if it was asked to stop; else its own.

    Returns:
      The contents of results.json, those that are there if the run is finished; empty when the run was asked to stop
      (SIGTERM, Ctrl-C) and has saved itself.

    Raises:
      Refused: the config's values do not go together; nothing has been written.
      Diverged: the loss or the weights are not finite.
      UserError: the workdir belongs to another config or other data, another process trains in it, the disk is full.
    """
    began = time.perf_counter()
    # What is wrong with the config or the weights to start from is found before anything is written.
    check(config, task)
    variables = start.variables(task, config, workdir)
    first = jax.process_index() == 0
    with contextlib.ExitStack() as closing:
        # One process at a time trains in a workdir; in one that is finished nothing is written.
        if first and not (workdir / "results.json").exists():
            closing.enter_context(lock.held(workdir, patient=True))
        # The workdir becomes this run's, or is found to be.
        if first:
            data = _claim(task, config, workdir)
        if finished := metrics.results(workdir):
            return finished
        if first:
            contents.keep(workdir, data)
            claims.move(workdir, config, contents.movable(workdir, data))
            task.describe(workdir)
        # The state: new, or that of the newest checkpoint.
        checkpoints = checkpoint.Checkpoints(workdir)
        if checkpoints.latest() is None:
            state = start.begin(task, config, mesh, variables)
        else:
            state = start.resume(task, config, mesh, checkpoints)
        stop = stop or closing.enter_context(StopRequest())
        try:
            task.prepare(state.variables, workdir)
        except Stopped:
            return {}
        # Records go on where the checkpoint is, and so does the clock.
        done = int(state.step)
        writer = metrics.Writer(workdir, done) if first else metrics.Silent()
        earlier = max(writer.elapsed, checkpoints.seconds())  # the last line may be older than the checkpoint
        if first:
            observers = (Progress(task, config.batch_size, done, began), *task.observers(workdir), *observers)
        # The loop, and what it leaves.
        for closable in (checkpoints, writer, *observers):
            closing.callback(closable.close)
        wishes = Wishes(stop, closing.enter_context(Notice()), mesh)
        loop = _Loop(task, config, mesh, checkpoints, writer, observers, stop, wishes, began - earlier)
        state = loop.run(state, done)
        checkpoints.wait()
        if int(state.step) == task.steps and not loop.unevaluated:
            with contextlib.suppress(Stopped):
                return _finish(loop, state, workdir)
    if first:
        print(f"stopped at step {int(state.step)} of {task.steps}; the same command continues from there")
    return {}


def _claim(task: Task, config: ConfigDict, workdir: Path) -> dict[str, contents.Content]:
    """Makes a workdir this run's, or finds that it is, by its config and by what its folders of data hold.

    Returns:
      What they hold.
    """
    data = task.contents()
    moved = tuple(f"{key}:" for key in contents.movable(workdir, data))
    claims.claim(workdir, config, ignore=(*claims.FREE, *moved))
    contents.check(workdir, data, {key: f"config.{key}={config[key]}" for key in data})
    return data


def check(config: ConfigDict, task: Task) -> None:
    """Raises a UserError for intervals and an optimiser that cannot be; computes nothing."""
    for name, least in (("log_every", 1), ("eval_every", 0), ("checkpoint_every", 0)):
        require(f"config.{name}", config[name], at_least(least), kind=int)
    start.optimiser(task, config.optim)


@dataclasses.dataclass
class _Loop:
    """The steps between restoring and finishing, and what happens every so many of them."""

    task: Task
    config: ConfigDict
    mesh: Mesh
    checkpoints: checkpoint.Checkpoints
    writer: metrics.Writer | metrics.Silent
    observers: Sequence[Observer]
    stop: StopRequest
    wishes: Wishes
    began: float  # on time.perf_counter's clock, moved back by the time of earlier runs

    def __post_init__(self):
        self.schedule = optim.schedule(self.config.optim, self.task.steps)
        epoch = max(1, round(self.task.steps_per_epoch))
        self.eval_every = self.config.eval_every or epoch
        self.checkpoint_every = self.config.checkpoint_every or epoch
        self.finite = jax.jit(self.task.finite)
        self.zeros = meshes.on_mesh(lambda: Averages.zeros(self.task.metric_names), self.mesh)
        self.stopping = False  # whether all processes know by now that one of them has been asked to stop
        self.unevaluated = False  # whether a stop has cut an evaluation short, which the next start does again

    def run(self, state: TrainState, first: int) -> TrainState:
        step = make_step(self.task, self.config, self.mesh)
        self.logged_at, self.logged_step = time.perf_counter(), first
        if first and self._due(first, self.eval_every) and meshes.any_process(not self.writer.evaluated):
            self._evaluate(state, first)  # it was cut short
            if self.unevaluated:
                return state
        with Prefetcher(lambda i: meshes.put_rows(self.task.batch(i), self.mesh), first, self.task.steps) as batches:
            batches = iter(batches)
            for done in range(first + 1, self.task.steps + 1):
                batch = self._next(batches, state, done - 1, first)
                if done - 1 in self.task.stages:
                    state = self._grow(state, done - 1)
                state, loss = step(state, batch)
                granted = self.wishes.granted(loss)
                self.stopping |= granted == STOP
                if done == first + 1:
                    loss.block_until_ready()  # its compilation belongs to no log's throughput
                for observer in self.observers:
                    observer.after_step(done, lambda state=state: jax.tree.map(jnp.copy, state.variables))
                state = self._after(state, done)
                stops = self._stops()
                if granted == SAVE or stops:
                    self._save(state, done)
                if stops:
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
        state = start.grow(self.task, self.config, state, self.task.stages.index(done) + 1, self.mesh)
        self.logged_at += time.perf_counter() - started
        return state

    def _after(self, state: TrainState, done: int) -> TrainState:
        if self._due(done, self.config.log_every):
            state = self._log(state, done)
        if self._due(done, self.eval_every):
            self._evaluate(state, done)
        if self._due(done, self.checkpoint_every):
            self._save(state, done)
        return state

    def _stops(self) -> bool:
        """Whether to stop now: at once, or where several processes share the run, when all of them know."""
        return self.stopping or (jax.process_count() == 1 and self.stop.asked)

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
        for observer in self.observers:
            observer.after_log(done, numbers)
        self.logged_at, self.logged_step = time.perf_counter(), done
        return state.replace(averages=jax.tree.map(jnp.copy, self.zeros))

    def _evaluate(self, state: TrainState, done: int) -> None:
        self._check_weights(state)
        started = time.perf_counter()
        try:
            numbers = self.task.evaluate(state.variables, done)
        except Stopped:
            self.unevaluated = self.stopping = True
            return
        self._write(done, numbers)
        for observer in self.observers:
            observer.after_evaluation(done, numbers)
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


def _finish(loop: _Loop, state: TrainState, workdir: Path) -> dict[str, Any]:
    task, config = loop.task, loop.config
    results = {
        "task": config.task,
        "seed": config.seed,
        "steps": task.steps,
        "epochs": round(task.steps / task.steps_per_epoch, 3),
        "seconds": round(time.perf_counter() - loop.began, 1),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "devices": f"{loop.mesh.size} x {jax.devices()[0].device_kind}",
        "revision": version.revision(),
        **json_file.known(task.finish(state.variables, workdir)),
    }
    if jax.process_index() == 0:
        files.write_json(workdir / "results.json", results)
    return results
