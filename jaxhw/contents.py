"""What a run's folders of data hold, wherever they lie: kept in its data.json, compared when the run goes on.

The place is no part of what a run is: a folder may be moved, and a run goes on with it under its new name. Its content
is: which pictures there are. Names and sizes of the files tell it, since to read them all would take too long.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from jaxhw import files, json_file
from jaxhw.errors import UserError

FILE = "data.json"
_SCHEMA = {str: {"kind": str, "images": int, "classes": [str], "hash": str}}


@dataclass(frozen=True)
class Content:
    """What one folder holds.

    Attributes:
      kind: how it is read ("folder", "domains:photo,sketch", "scene").
      images: how many there are.
      classes: their names, in the order of the labels; empty without labels.
      hash: of the names, as seen from the folder, and the sizes of all files.
    """

    kind: str
    images: int
    classes: tuple[str, ...]
    hash: str

    def __str__(self) -> str:
        return f"{self.images:,} images" + (f" in {len(self.classes)} classes" if self.classes else "")


def of(
    kind: str, root: Path, images: Iterable[Path], classes: Iterable[str] = (), beside: Iterable[Path] = ()
) -> Content:
    """The content of a folder by its files: the images and what lies beside them, such as masks."""
    images, inside = set(images), os.path.join(os.path.abspath(root), "")
    listed = sorted(_entry(os.path.abspath(path), inside) for path in images.union(beside))
    return Content(kind, len(images), tuple(classes), hashlib.sha256(b"\n".join(listed)).hexdigest())


def _entry(path: str, inside: str) -> bytes:
    """A file's name as seen from the folder, or alone if it lies elsewhere, and its size."""
    name = path.removeprefix(inside) if path.startswith(inside) else os.path.basename(path)
    try:
        size = os.stat(path).st_size
    except OSError:  # a link to nothing, which is told of when it is read
        size = -1
    return b"%s\0%d" % (os.fsencode(name), size)


def read(workdir: Path) -> dict[str, Content]:
    """What a run began with, by the keys of its config; empty of runs that are older than this file.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / FILE
    try:
        found = json_file.read(path, _SCHEMA, "delete it to take the data as they are now")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {key: Content(**{**value, "classes": tuple(value["classes"])}) for key, value in found.items()}


def keep(workdir: Path, now: Mapping[str, Content]) -> None:
    """Writes what a run begins with, unless that has been written."""
    if now and not (workdir / FILE).exists():
        files.write_json(workdir / FILE, {key: asdict(content) for key, content in now.items()})


def movable(workdir: Path, now: Mapping[str, Content]) -> list[str]:
    """The keys whose folders may lie elsewhere than at the run's start: those that are read in the same way."""
    then = read(workdir)
    return [key for key in now if key in then and then[key].kind == now[key].kind]


def check(workdir: Path, now: Mapping[str, Content], places: Mapping[str, str]) -> None:
    """Compares what folders hold with what the run in a workdir began with.

    Args:
      places: by key, how a message names the folder: "config.dataset=folder:pets".

    Raises:
      UserError: it is something else; the message says what.
    """
    for key, then in read(workdir).items():
        if key in now and (differing := _difference(now[key], then)):
            holds, began = differing
            raise UserError(
                f"{places[key]} holds {holds} where the run in {workdir} began with {began}: put back what it began "
                "with, or choose another --workdir"
            )


def _difference(now: Content, then: Content) -> tuple[str, str] | None:
    """What one holds and what the other held, in words; None where they are the same."""
    if now == then:
        return None
    if now.images != then.images or len(now.classes) != len(then.classes):
        return str(now), str(then)
    if new := sorted(set(now.classes) - set(then.classes)):
        return f"the class {new[0]}", min(set(then.classes) - set(now.classes))
    return f"{now}, some files of another name or size,", str(then)
