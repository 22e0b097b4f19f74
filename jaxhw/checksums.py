"""Checksums of a checkpoint's files: a flipped bit loads without a word, and a run would train on wrong weights."""

import hashlib
from pathlib import Path

from jaxhw import files, json_file

NAME = "checksums.json"
LATER = "_CHECKPOINT_METADATA"  # Orbax writes the time of completion into it when all else is written


def write(folder: Path) -> None:
    """Writes checksums.json, which holds the SHA-256 of the other files of a folder as they lie on the disk."""
    written = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != LATER]
    files.write_json(folder / NAME, {str(path.relative_to(folder)): _sum(path) for path in written})


def exist(folder: Path) -> bool:
    """Whether a folder has checksums: the checkpoints of older versions have none."""
    return (folder / NAME).exists()


def damage(folder: Path) -> str:
    """What is not as it was written, or an empty string; files that came later do not count."""
    try:
        sums = json_file.parse((folder / NAME).read_bytes())
        for name, told in sums.items():
            if not (folder / name).is_file():
                return f"{name} is missing"
            if _sum(folder / name) != told:
                return f"{name} is not as it was written"
    except PermissionError:  # of another user: it may be sound
        raise
    except (OSError, json_file.Damaged, AttributeError, TypeError) as error:
        return f"it cannot be read: {error}"
    return ""


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
