"""Files that are complete or absent, and folders that can be made or are refused in one line."""

import os
from pathlib import Path

from jaxhw.errors import UserError


def write(path: Path, text: str) -> None:
    """Writes a text file beside its name and renames it, so that a process that dies leaves the old one or the new."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two processes may write seeds of one study
    partial.write_text(text)
    partial.replace(path)


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
