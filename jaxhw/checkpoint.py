"""Checkpoints through Orbax: written in the background, complete or absent, readable on other devices.

Each holds the checksums of its files, written before it gets its name, and they are compared before it is read. Where
the newest checkpoint is damaged, the one before it is read.
"""

import contextlib
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxhw import checksums, files
from jaxhw import mesh as meshes
from jaxhw.errors import DiskFailure, UserError, disk_failure, warn
from jaxhw.state import Variables

PyTree = Any


class _Damaged(UserError):
    """The files of one checkpoint are not what was written."""


class Checkpoints:
    """The checkpoints of one workdir; the newest ``keep`` of them stay.

    A checkpoint is written beside its final name and renamed when it is complete, so that a process that dies at
    any moment leaves the previous one whole.
    """

    def __init__(self, workdir: str | Path, keep: int = 2):
        self.folder = Path(workdir).absolute() / "checkpoints"
        try:
            self._manager = self._open(keep)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ):  # Orbax fails if one checkpoint's metadata are damaged
            self._set_metadata_aside()
            self._manager = self._open(keep)

    def _open(self, keep: int) -> ocp.CheckpointManager:
        background = ocp.options.AsyncOptions(post_finalization_callback=self._add_checksums)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, step_prefix="step", async_options=background
        )
        handler = ocp.StandardCheckpointHandler()  # without it, shapes cannot be read before anything is saved
        return ocp.CheckpointManager(self.folder, options=options, item_handlers=handler)

    def _set_metadata_aside(self) -> None:
        """Renames what Orbax can do without: of the metadata only the time that the run had trained is of use."""
        if jax.process_index() == 0:
            for path in self.folder.glob(f"step_*/{checksums.LATER}"):
                path.rename(files.aside(path))
            warn(f"{self.folder}: {checksums.LATER} of a checkpoint is damaged: set aside, as the weights need it not")
        meshes.any_process(True)  # wait for the first process's renaming

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def path(self) -> Path | None:
        """Where the newest complete checkpoint lies."""
        return None if self.latest() is None else self._path(self.latest())

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step}"

    def seconds(self) -> float:
        """How long the run had trained at the newest complete checkpoint, as far as it is known."""
        found = self._manager.metadata(self.latest()).custom_metadata if self.latest() is not None else None
        seconds = (found or {}).get("seconds")
        return seconds if isinstance(seconds, float) and math.isfinite(seconds) else 0.0

    def save(self, step: int, state: PyTree, seconds: float = 0.0) -> None:
        """Starts writing; returns when the values are copied from the devices.

        Args:
          seconds: that the run has trained so far.

        A write that fails in the background raises in the next ``save`` or in ``wait``.

        Raises:
          UserError: the disk has no room for it.
          DiskFailure: so it turned out in the midst of writing this one, or the one before.
        """
        if step != self.latest():
            self._check_room(state)
            self.wait()  # for the checkpoint before this one, whose step is the one being written
            self._writing = step
            with self._naming_the_folder():
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
        with self._naming_the_folder():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        """Where Orbax reports a full disk, its error may lack the path, or have another error in front of it."""
        try:
            yield
        except Exception as error:
            if reason := disk_failure(error, unnamed=str(self.folder)):
                raise DiskFailure(reason) from error
            raise

    def drop(self, step: int) -> None:
        """Deletes the checkpoint of a step if there is one."""
        self.wait()
        if step in self._manager.all_steps():
            self._manager.delete(step)

    def restore(self, layout: Callable[[PyTree], PyTree], set_aside: bool = False) -> PyTree:
        """The newest checkpoint that is sound, as it lies on disk: nested dicts and lists, named as its types' fields.

        Args:
          layout: (shapes of all arrays, in the same nested dicts) -> where each is to lie, a sharding for each.
          set_aside: whether damaged checkpoints get another name, so that the one that was read is the newest.

        Raises:
          UserError: no checkpoint is sound, or what its files hold cannot be read by this version.
        """
        failures: dict[int, _Damaged] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self._restore(step, layout)
            except _Damaged as error:
                failures[step] = error
                continue
            for damaged, error in failures.items():
                self._fall_back(damaged, error, step, set_aside)
            return state
        newest = failures[max(failures)]
        advice = f"move {self.folder} away to begin anew, or choose another --workdir"
        raise UserError(f"{newest}; there is no older checkpoint that is sound: {advice}") from newest

    def _restore(self, step: int, layout: Callable[[PyTree], PyTree]) -> PyTree:
        path = self._path(step)
        summed = checksums.exist(path)
        what = checksums.damage(path) if summed else ""
        if meshes.any_process(bool(what)):  # all processes read the same checkpoint
            raise _Damaged(f"{path} is damaged ({what or 'as another process finds'})")
        try:
            shapes = self._manager.item_metadata(step)
            place = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
            abstract = jax.tree.map(place, shapes, layout(shapes))
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (UserError, PermissionError, MemoryError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:  # of a damaged file each layer of Orbax says something of its own
            kind = UserError if summed else _Damaged  # with checksums its files are those that were written
            raise kind(f"{path} cannot be restored ({_line(error)})") from error

    def _fall_back(self, damaged: int, error: _Damaged, older: int, set_aside: bool) -> None:
        """Names both checkpoints, and lets the older one be the newest."""
        path, kept = self._path(damaged), ""
        if set_aside:
            there = files.aside(path)
            kept = f"; the damaged one is kept as {there.name}"
            if jax.process_index() == 0:
                path.rename(there)
            meshes.any_process(True)  # wait for the first process's renaming
            self._manager.reload()
        if jax.process_index() == 0:
            warn(f"{error}: the older checkpoint {self._path(older)} is read in its place{kept}")

    def _add_checksums(self) -> None:
        """Orbax calls this when a checkpoint is complete, before it gets its name."""
        if jax.process_index() == 0:
            for unnamed in self.folder.glob(f"step_{self._writing}.orbax-checkpoint-tmp*"):
                checksums.write(unnamed)

    def close(self) -> None:
        with self._naming_the_folder():
            self._manager.close()


def newest(workdir: str | Path) -> int | None:
    """The step of a workdir's newest complete checkpoint; makes no folder, waits for no process."""
    found = (re.fullmatch(r"step_(\d+)", path.name) for path in (Path(workdir) / "checkpoints").glob("step_*"))
    return max((int(match[1]) for match in found if match), default=None)


def exists(workdir: str | Path) -> bool:
    """Whether a workdir holds a complete checkpoint; makes no folder, waits for no process."""
    return newest(workdir) is not None


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
