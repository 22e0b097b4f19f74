"""Files that grow while a run trains. A log that fails stops no run: it is said once, and the run goes on."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxhw.errors import warn

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter


class Lines:
    """A file that grows line by line. What the disk does not take is kept, and written with a later line."""

    def __init__(self, path: Path):
        self._path, self._kept = path, b""
        self._file = path.open("ab", buffering=0)
        self._whole = self._file.seek(0, os.SEEK_END)  # the length of the lines that are complete

    def write(self, text: str) -> None:
        torn, self._kept = bool(self._kept), self._kept + text.encode()
        try:
            if torn:
                self._file.truncate(self._whole)  # without what an earlier attempt has begun
            written = self._file.write(self._kept)
            if written < len(self._kept):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not torn:
                warn(f"cannot write {self._path}: {error.strerror}; training goes on, its lines are kept for later")
        else:
            self._whole, self._kept = self._whole + written, b""

    def close(self) -> None:
        if self._kept:
            self.write("")
        if self._kept:
            lost = len(self._kept.splitlines())
            warn(f"{self._path} lacks its last lines: {lost} could not be written")
        with contextlib.suppress(OSError):
            self._file.close()


class Board:
    """TensorBoard's file, written by the caller itself: tensorboardX's own writer blocks for ever once it has failed.

    Args:
      step: the first one to come; TensorBoard leaves out what an earlier file has from there on.
    """

    def __init__(self, folder: Path, step: int):
        self._events: EventsWriter | None = None
        self._folder = folder
        with self._if_it_works():
            from tensorboardX import event_file_writer
            from tensorboardX.proto.event_pb2 import SessionLog

            folder.mkdir(exist_ok=True)
            self._events = event_file_writer.EventsWriter(str(folder / "events"), f".{os.getpid()}")
            self._add(step, session_log=SessionLog(status=SessionLog.START))
            self._events.flush()

    def write(self, step: int, numbers: dict[str, float]) -> None:
        if self._events is None:
            return
        with self._if_it_works():
            from tensorboardX.summary import scalar

            for name, value in numbers.items():
                self._add(step, summary=scalar(name, value))
            self._events.flush()

    def close(self) -> None:
        if self._events is not None:
            with self._if_it_works():
                self._events.close()

    def _add(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(wall_time=time.time(), step=step, **content))

    @contextlib.contextmanager
    def _if_it_works(self) -> Iterator[None]:
        """A log that fails stops no run: it is said once, and nothing more is written."""
        try:
            yield
        except (OSError, ImportError) as error:
            self._events, why = None, getattr(error, "strerror", None) or error
            warn(f"cannot write {self._folder}: {why}; training goes on without TensorBoard's files")
