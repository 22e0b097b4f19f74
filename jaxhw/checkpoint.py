"""Checkpoints through Orbax: written in the background, complete or absent, readable on other devices."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxhw.errors import UserError
from jaxhw.state import Variables

PyTree = Any


class Checkpoints:
    """The checkpoints of one workdir; the newest ``keep`` of them stay.

    A checkpoint is written beside its final name and renamed when it is complete, so that a process that dies at
    any moment leaves the previous one whole.
    """

    def __init__(self, workdir: str | Path, keep: int = 2):
        self.folder = Path(workdir).absolute() / "checkpoints"
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, step_prefix="step")
        handler = ocp.StandardCheckpointHandler()  # without it, shapes cannot be read before anything is saved
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handler)

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def path(self) -> Path | None:
        """Where the newest complete checkpoint lies."""
        return None if self.latest() is None else self.folder / f"step_{self.latest()}"

    def seconds(self) -> float:
        """How long the run had trained at the newest complete checkpoint, as far as it is known."""
        found = self._manager.metadata(self.latest()).custom_metadata if self.latest() is not None else None
        return (found or {}).get("seconds", 0.0)

    def save(self, step: int, state: PyTree, seconds: float = 0.0) -> None:
        """Starts writing; returns when the values are copied from the devices.

        Args:
          seconds: that the run has trained so far.

        A write that fails in the background raises in the next ``save`` or in ``wait``.

        Raises:
          UserError: the disk has no room for it.
        """
        if step != self.latest():
            self._check_room(state)
            self._manager.save(step, args=ocp.args.StandardSave(state), custom_metadata={"seconds": seconds})

    def _check_room(self, state: PyTree) -> None:
        needed = 1.1 * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            kept = f"the last complete one is {self.path()}" if self.path() else "there is none yet"
            sizes = f"it needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
            raise UserError(f"the disk has no room for a checkpoint in {self.folder}: {sizes}; {kept}")

    def wait(self) -> None:
        """Returns when the last checkpoint is complete."""
        self._manager.wait_until_finished()

    def drop(self, step: int) -> None:
        """Deletes the checkpoint of a step if there is one."""
        self.wait()
        if step in self._manager.all_steps():
            self._manager.delete(step)

    def restore(self, layout: Callable[[PyTree], PyTree]) -> PyTree:
        """The newest checkpoint as it lies on disk: nested dicts and lists, under the names of its types' fields.

        Args:
          layout: (shapes of all arrays, in the same nested dicts) -> where each is to lie, a sharding for each.

        Raises:
          UserError: its files are damaged.
        """
        try:
            shapes = self._manager.item_metadata(self.latest())
            place = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
            abstract = jax.tree.map(place, shapes, layout(shapes))
            return self._manager.restore(self.latest(), args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{self.path()} cannot be restored: {_line(error)}") from error

    def close(self) -> None:
        self._manager.close()


def exists(workdir: str | Path) -> bool:
    """Whether a workdir holds a complete checkpoint; makes no folder, waits for no process."""
    return any(re.fullmatch(r"step_\d+", path.name) for path in (Path(workdir) / "checkpoints").glob("step_*"))


def restore_variables(workdir: str | Path, sharding: jax.sharding.Sharding) -> Variables:
    """What evaluation needs of a workdir's newest checkpoint, averaged where it is kept; as nested dicts.

    Raises:
      UserError: the workdir holds no complete checkpoint.
    """
    checkpoints = Checkpoints(workdir)
    if checkpoints.latest() is None:
        raise UserError(f"{workdir} holds no complete checkpoint yet")
    state = checkpoints.restore(lambda shapes: jax.tree.map(lambda _: sharding, shapes))
    checkpoints.close()
    return Variables(**(state["ema"] or {name: state[name] for name in ("params", "model_state")}))


def _line(error: BaseException) -> str:
    """The cause's first line, shortened."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip().split("\n")[0]
    return text if len(text) < 300 else text[:297] + "..."
