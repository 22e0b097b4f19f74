"""Masks that a user has for a capture's pictures, brought under the names of the pictures."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from jaxhw.errors import UserError
from jaxhw.nerf.scenes import report
from jaxhw.nerf.scenes.decoding import SUFFIXES, picture_size
from jaxhw.nerf.scenes.frames import listed


def place(given: Path, images: Path, sources: Mapping[str, str], out: Path) -> None:
    """Copies masks to `out` under COLMAP's name, NAME.png for a picture NAME; what else lies there stays.

    Args:
      given: a folder with PNGs that are called like the pictures, or like the files that these came from.
      sources: for each picture below `images`, what it was called.

    Raises:
      UserError: no mask belongs to any picture, or one differs from its picture in size.
    """
    found = {name: path for name in sources if (path := _mask_of(given, name, sources[name]))}
    if not found:
        raise UserError(
            f"none of the files in {given} is named like a picture: for {next(iter(sources.values()), 'a.jpg')} it "
            f"would be {next(iter(sources), 'a.jpg')}.png"
        )
    for name, path in found.items():
        if (size := picture_size(path)) != (wanted := picture_size(images / name)):
            raise UserError(
                f"mask {path} is {size[0]} x {size[1]}, but its picture {sources[name]} is {wanted[0]} x {wanted[1]} "
                "when upright: make it of that size"
            )
        place = out / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        if not (place.exists() and place.samefile(path)):
            shutil.copyfile(path, place)
    if without := sorted(sources.keys() - found.keys()):
        report.say(f"{len(found)} pictures have a mask, {len(without)} have none: {listed(without)}")


def _mask_of(folder: Path, name: str, source: str) -> Path | None:
    for called in dict.fromkeys((name, source, Path(name).name, Path(source).name)):
        stem = str(Path(called).with_suffix("")) if Path(called).suffix.lower() in SUFFIXES else called
        for path in (folder / f"{called}.png", folder / f"{stem}.png"):
            if path.is_file():
                return path
    return None
