"""Which files of the folders of photos are pictures, and what each picture will be called."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from jaxhw.errors import UserError
from jaxhw.nerf.capture.names import Names, free
from jaxhw.nerf.capture.record import Rejected
from jaxhw.nerf.scenes.decoding import SUFFIXES

NOT_PHOTOS = ("masks", "__macosx", "@eadir")  # folders of masks, of macOS's notes, of a network disk's thumbnails


@dataclasses.dataclass(frozen=True)
class Photo:
    """A file that should be a picture.

    Attributes:
      source: see `record.Kept`.
      stem: where it will be written below the folder of pictures, without a suffix: "phone/IMG_1".
    """

    path: Path
    source: str
    stem: str


def list_photos(folders: Sequence[Path]) -> tuple[list[Photo], list[Rejected]]:
    """The photos in some folders and below them, and the files that are none.

    Of one folder, the folders below it are kept in the photos' names, if there are several with photos in them; of
    several folders, each has a folder of its own. So every camera has a folder, if its photos had one.
    """
    names, labels = Names(), set()
    photos, rejected = [], []
    for folder in folders:
        several = len(folders) > 1
        label = [free(folder.resolve().name, labels)] if several else []
        found, others = _pictures(files(folder))
        top = Path(os.path.commonpath([path.parent for path in found])) if found else folder
        for path in found:
            stem = names.stem(PurePath(*label, path.relative_to(top)))
            photos.append(Photo(path, _source(path, folder, several), stem))
        rejected += [
            Rejected(_source(path, folder, several), f"no picture ({path.suffix.lower() or 'no suffix'})")
            for path in others
        ]
    return photos, rejected


def files(folder: Path) -> list[Path]:
    """All files below a folder but hidden ones and `NOT_PHOTOS`, sorted; links are followed, and each folder once.

    Raises:
      UserError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read the folder {error.filename}: {error.strerror}")

    found, visited = [], set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if name[0] != "." and name.lower() not in NOT_PHOTOS)
        found += [Path(parent, name) for name in names if name[0] != "."]
    return sorted(found)


def kinds(paths: Sequence[Path | str]) -> str:
    """What files there are, for a message: "3 .txt, 1 .mov"; the four most frequent kinds."""
    counts = Counter(PurePath(path).suffix.lower() or "without a suffix" for path in paths)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(4))


def _pictures(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    found = [path for path in paths if path.suffix.lower() in SUFFIXES]
    return found, [path for path in paths if path.suffix.lower() not in SUFFIXES]


def _source(path: Path, folder: Path, several: bool) -> str:
    return (path if several else path.relative_to(folder)).as_posix()
