"""Files that are complete or absent, and folders that can be made or are refused in one line."""

import contextlib
import itertools
import json
import shutil
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from jaxhw.errors import UserError


def write(path: Path, text: str) -> None:
    """Writes a text file beside its name and renames it, so that a process that dies leaves the old one or the new."""
    partial = path.with_name(f"{path.name}.{_own()}.tmp")
    with naming(path, partial):
        partial.write_text(text, "utf-8", "backslashreplace")  # names of files may hold bytes that are no UTF-8
        partial.replace(path)


@contextlib.contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Yields a hidden name beside ``path``, of its suffix, to write a file to; it gets its own when it is complete."""
    partial = path.with_name(f".{path.stem}.{_own()}{path.suffix}")
    with naming(path, partial):
        yield partial
        partial.replace(path)


def _own() -> str:
    """A part of a name that no other process has: on several hosts some may have the same number."""
    return uuid.uuid4().hex[:8]


@contextlib.contextmanager
def naming(path: Path, partial: Path) -> Iterator[None]:
    """Within, an OSError of writing ``partial``, or ``path`` from it, names ``path``; no half file stays after any end.

    Of itself the error of a full disk names no file.
    """
    try:
        with _unwinding():
            yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def _unwinding() -> Iterator[None]:
    """Within, SIGTERM and a closed terminal, unless something else listens to them, end the process as an error would.

    Of themselves they end it at once, and nothing is cleaned up.
    """

    def end(number: int, frame: Any) -> NoReturn:
        raise SystemExit(128 + number)  # as a shell tells of a signal

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        numbers = []
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that is complete or absent; NaN, which JSON lacks, is an error of the caller's."""
    write(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def aside(path: Path) -> Path:
    """A free name beside a damaged file or folder, for it to be kept under: ``damaged_NAME``, ``damaged_2_NAME``..."""
    names = (f"damaged_{'' if number == 1 else f'{number}_'}{path.name}" for number in itertools.count(1))
    return next(there for name in names if not (there := path.with_name(name)).exists())


def keep_damaged(path: Path) -> Path:
    """Copies a damaged file to a name of its own before it is written anew; returns where the copy lies."""
    return Path(shutil.copyfile(path, aside(path)))


def path(text: str) -> Path:
    """A path as a user writes it in a flag, where the shell leaves ``~`` as it is."""
    return Path(text).expanduser()


def make_folder(folder: Path, flag: str = "--workdir") -> None:
    """Makes a folder and those above it.

    Raises:
      UserError: that cannot be; ``flag`` is where the folder was named.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}; choose another {flag}") from None
