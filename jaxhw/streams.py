"""stdout and stderr of a command: a terminal that was closed or a reader that has gone ends no run.

Into a log file progress comes as a line every half a minute; on a terminal as a bar.
"""

import contextlib
import errno
import io
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
EVERY = 30.0  # seconds between two lines


class Lasting:
    """A text stream that never fails: once nobody reads it, what is written goes nowhere."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):  # names of files and classes that its encoding lacks are escaped
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._if_read():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._if_read():
            self._stream.flush()

    @contextlib.contextmanager
    def _if_read(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EIO):  # also what Python flushes at its end goes nowhere now
                with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), self._stream.fileno())


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Within, stdout and stderr never fail, also where the command was started without them."""
    before = sys.stdout, sys.stderr
    nowhere = open(os.devnull, "w")  # noqa: SIM115  left open: a logger may hold and write to it until the end
    sys.stdout, sys.stderr = (Lasting(stream or nowhere) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether somebody watches a stream: stderr, where bars are drawn, or another."""
    stream = stream or sys.stderr
    return bool(stream) and stream.isatty()


class Meter:
    """The part of tqdm's interface that this package uses, for logs: a line every half a minute, and one at the end."""

    def __init__(self, total: int | None, initial: int = 0, unit: str = "it", desc: str = ""):
        self.form = {"total": total, "initial": initial, "unit": unit, "unit_scale": True, "prefix": desc}
        self.count, self.told, self.postfix = initial, initial, ""
        self.unpause()

    def unpause(self) -> None:
        """Counts the time from now on."""
        self.started = self.said = time.monotonic()

    def update(self, count: int) -> None:
        self.count += count
        if time.monotonic() - self.said >= EVERY:
            self._say()

    def set_postfix(self, refresh: bool = True, **numbers: Any) -> None:
        self.postfix = ", ".join(f"{name}={value}" for name, value in numbers.items())

    def close(self) -> None:
        if self.count > self.told:
            self._say()

    def _say(self) -> None:
        self.said, self.told = time.monotonic(), self.count
        meter = tqdm.format_meter(self.count, elapsed=self.said - self.started, postfix=self.postfix, **self.form)
        print(meter, file=sys.stderr, flush=True)


def bar(items: Iterable[T], what: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """The items, with a bar on a terminal if they take longer than three seconds; in a log every half a minute."""
    if is_terminal():
        yield from tqdm(items, what, total, unit=unit, delay=3, leave=False)
        return
    meter = Meter(total, unit=unit, desc=what)
    for item in items:
        yield item
        meter.update(1)


def counter(what: str, total: int) -> Any:
    """A bar (or in a log a `Meter`) to call `update` and `close` on, for work that is counted from outside."""
    if is_terminal():
        return tqdm(desc=what, total=total, leave=False)
    return Meter(total, desc=what)
