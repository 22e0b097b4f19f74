"""The features of a capture's pictures: which share a camera, where masks forbid them, what the database keeps."""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.ExifTags import IFD, Base

from jaxhw.decoding import open_picture
from jaxhw.nerf.capture import colmap
from jaxhw.nerf.capture.ledger import Ledger, content, digest

SHARED = ("one", "folder", "picture")


def extract(ledger: Ledger, work: Path, images: Path, masks: Path | None, camera: str, shared: str) -> str:
    """Puts the features of all pictures below `images` into COLMAP's database; returns the key of that phase.

    Pictures added since are added there; a picture that changed, or another kind of camera, starts a new database.

    Args:
      masks: a folder of NAME.png.
      camera: COLMAP's model.
      shared: one of `SHARED`: who has a camera in common. Pictures of different sizes or zoom never have.
    """
    names = sorted(path.relative_to(images).as_posix() for path in images.rglob("*") if path.is_file())
    pictures = {name: content(images / name) for name in names}
    given = sorted(path.relative_to(masks).as_posix() for path in masks.rglob("*.png")) if masks else []
    kind = {"camera": camera, "shared": shared, "masks": {name: content(masks / name) for name in given}}
    database, key = work / "database.db", digest(pictures, kind)
    # What the database holds features of is known before they are found: a kill leaves those that it has.
    before = ledger.result("database") or {"kind": None, "pictures": {}}
    if before["kind"] != kind or not before["pictures"].items() <= pictures.items():
        for path in work.glob("database.db*"):
            path.unlink()
    ledger.phase("database", key, lambda: {"kind": kind, "pictures": pictures})

    def find() -> int:
        colmap.run(
            work,
            "features",
            colmap.Progress("finding features", len(names), lambda: colmap.count_features(database)),
            database=str(database),
            images=str(images),
            groups=_groups(images, names, shared),
            camera=camera,
            masks=str(masks) if given else "",
        )
        return colmap.count_features(database)

    ledger.phase("features", key, find, [database])
    return key


def _groups(images: Path, names: Sequence[str], shared: str) -> list[Mapping[str, Any]]:
    """Pictures that share a camera: of one size, one focal length and (if shared by "folder") one folder."""
    if shared == "picture":
        return [{"names": list(names), "shared": False}]
    folder = lambda name: name.rpartition("/")[0] if shared == "folder" else ""
    of = {name: (folder(name), *open_picture(images / name, _size_and_zoom)) for name in names}
    ordered = sorted(names, key=lambda name: (of[name], name))
    return [{"names": list(group), "shared": True} for _, group in itertools.groupby(ordered, key=of.get)]


def _size_and_zoom(image: Image.Image) -> tuple[int, int, float]:
    """Width, height, and EXIF's focal length in mm, 0 where there is none."""
    with contextlib.suppress(Exception):  # broken EXIF says nothing
        return *image.size, float(image.getexif().get_ifd(IFD.Exif).get(Base.FocalLength) or 0)
    return *image.size, 0.0
