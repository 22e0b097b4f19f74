"""The one exception that users see, and how entry points end."""

import io
import os
import re
import sys
from collections.abc import Callable

from tqdm import tqdm

from jaxhw import streams

# What a full or forbidden disk says, through OSError or through the checkpoint writer's own errors.
DISK = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "Read-only file system",
    "Permission denied",
    "database or disk is full",
)


_said: set[str] = set()  # by `warn`


class UserError(Exception):
    """Bad input. Entry points print its single line after ``error:`` and exit with its code."""

    code = 2


class DiskFailure(Exception):
    """The disk is full or forbids writing; the text is :func:`disk_failure`'s."""


def warn(line: str) -> None:
    """Says on stderr, once a process, what is wrong and yet ends nothing."""
    if line not in _said:
        _said.add(line)
        tqdm.write(f"warning: {one_line(line)}", file=sys.stderr)


def one_line(text: str) -> str:
    """A message on one line: names of files and values that it quotes may have line breaks in them."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def exit_code(function: Callable[[], None]) -> int:
    """Runs an entry point: 0 when it returns, one line on stderr and 2 when its input or the disk is at fault.

    Ctrl-C where nothing else takes it gives 130, as in a shell.
    """
    with streams.lasting():
        return _exit_code(function)


def _exit_code(function: Callable[[], None]) -> int:
    try:
        function()
        return 0
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        reason = disk_failure(error)
        if not reason:
            raise
        own, sys.stderr = sys.stderr, io.StringIO()
        line = f"error: {reason}; mend that and run the same command: what was complete stays"
        print(f"\n{line}" if streams.is_terminal(own) else line, file=own, flush=True)  # a bar may stand there
        sys.stdout.flush()
        os._exit(2)  # threads and exit handlers would fail again, each with a traceback


def disk_failure(error: BaseException | None, unnamed: str = "the output") -> str:
    """``cannot write PATH: No space left on device`` if that is what lies behind an error, else an empty string.

    Args:
      unnamed: stands for the path where the error has none.
    """
    if isinstance(error, DiskFailure):
        return str(error)
    found = ""
    while error is not None:
        reason = next((text for text in DISK if text in str(error)), "")
        quoted = re.search(r'"(/[^"]+)"', str(error))
        named = getattr(error, "filename", None) or (quoted and quoted[1])
        if reason and named:
            return f"cannot {'open' if reason == 'Permission denied' else 'write'} {named}: {reason}"
        found = found or (reason and f"cannot write {unnamed}: {reason}")
        error = error.__cause__ or error.__context__
    return found
