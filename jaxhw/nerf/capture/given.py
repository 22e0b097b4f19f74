"""A COLMAP model that a user already has: its pictures and it become the capture's, and no poses are looked for."""

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxhw import decoding
from jaxhw.decoding import open_picture
from jaxhw.errors import UserError
from jaxhw.nerf.capture import listing
from jaxhw.nerf.capture.ledger import Ledger, content, digest
from jaxhw.nerf.capture.record import Frames, Kept, Rejected
from jaxhw.nerf.scenes.formats import colmap, colmap_model
from jaxhw.nerf.scenes.frames import Finder, is_file


class Given(NamedTuple):
    """The folder of the model, and its pictures."""

    model: str
    frames: Frames


def given_model(ledger: Ledger, sources: Sequence[Path], out: Path, model: Path) -> Given:
    """Copies the pictures that a model names, as they are: it was made for their stored pixels.

    Raises:
      UserError: there is no model, or none of its pictures is in the sources.
    """
    found = colmap.models(model)
    if not found:
        raise UserError(f"--colmap={model} has no model of COLMAP's: cameras.bin and images.bin, or .txt, are expected")
    folder = max(found, key=colmap_model.image_count)
    images, find = colmap_model.images(folder), Finder()
    places = {image.name: next((p for s in sources if is_file(p := find(s, image.name))), None) for image in images}
    if bad := [name for name in places if _leaves(name)]:
        raise UserError(f"the model in {folder} names the picture {bad[0]}, which would lie outside of {out}")
    there = {name: path for name, path in places.items() if path}
    if not there:
        given = ", ".join(map(str, sources))
        raise UserError(
            f"none of the {len(places)} pictures that {folder} names is in {given}: not even {images[0].name}"
        )

    def copy() -> list[tuple[int, int]]:
        shutil.rmtree(out / "images", ignore_errors=True)
        for name, path in there.items():
            place = out / "images" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        return [open_picture(path, lambda image: decoding.upright(image).size) for path in there.values()]

    key = digest({name: content(path) for name, path in there.items()})
    sizes = ledger.phase("pictures", key, copy, [out / "images"])
    kept = [Kept(name, name, 0.0, False, tuple(size)) for name, size in zip(there, sizes, strict=True)]
    gone = [Rejected(name, "the model names it, but it is not there") for name in places.keys() - there.keys()]
    used = set(there.values())
    rest = [
        Rejected(str(p), "the model has no pose for it") for s in sources for p in listing.files(s) if p not in used
    ]
    return Given(str(folder), Frames(kept, sorted(gone + rest, key=lambda r: r.source), False))


def _leaves(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts
