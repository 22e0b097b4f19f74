"""Makes a posed scene of a video or of folders of photos.

jaxhw capture toy.mp4 --out=data/toy
jaxhw capture photos/ --out=data/garden --masks=masks/
jaxhw capture phone/ camera/ --out=data/hall                      (several folders: several cameras)
jaxhw capture photos/ --out=data/old --colmap=photos/sparse/0     (poses that COLMAP has found already)
jaxhw capture toy.mp4 --out=data/toy --metres=1203,877,0.30       (two points of report.md, 30 cm apart)

The same command goes on where it was stopped. Then train what is in the folder:

python -m jaxhw.main --config=configs/nerfacto.py --config.scene=data/toy --workdir=runs/toy
"""

import argparse
from pathlib import Path

from jaxhw import files
from jaxhw.errors import UserError
from jaxhw.options import between, require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sources, --out, --frames, --white, --camera, --shared, --masks, --metres, --colmap."""
    parser.add_argument("sources", nargs="+", type=files.path, metavar="VIDEO_OR_FOLDER", help="a video, or folders")
    parser.add_argument("--out", type=files.path, required=True, help="the folder for the scene and the report")
    parser.add_argument("--frames", type=int, default=300, help="of a video that are used at most (default: 300)")
    parser.add_argument(
        "--camera", default="SIMPLE_RADIAL", help="COLMAP's camera model (default: SIMPLE_RADIAL; OPENCV, PINHOLE, ...)"
    )
    parser.add_argument(
        "--shared", default="folder", help="who shares a camera: one (all of a size), folder (default) or picture"
    )
    parser.add_argument("--masks", type=files.path, help="folder of PNGs named like the pictures, black: leave out")
    parser.add_argument(
        "--metres", help="ID,ID,LENGTH: two points of report.md and the distance between them in metres"
    )
    parser.add_argument("--white", type=int, default=65535, help="value that is white in 16-bit grey (default: 65535)")
    parser.add_argument("--colmap", type=files.path, help="a COLMAP model of the photos; no poses are looked for")


def run(args: argparse.Namespace) -> None:
    """Captures, and says where the scene and its report are."""
    from jaxhw.nerf.capture import capture, features
    from jaxhw.nerf.scenes.formats.colmap import PARAMETERS

    for flag, value, choices in (("camera", args.camera, tuple(PARAMETERS)), ("shared", args.shared, features.SHARED)):
        if value not in choices:
            raise UserError(f"--{flag}={value} must be one of {', '.join(choices)}")
    for flag, folder in (("masks", args.masks), ("colmap", args.colmap)):
        if folder and not folder.is_dir():
            raise UserError(f"--{flag}={folder} is not a folder")
    require("--white", args.white, between(1, 65535), kind=int)
    names = ("out", "frames", "white", "camera", "shared", "masks", "colmap")
    request = {name: getattr(args, name) for name in names}
    told = capture.run(
        capture.Request(sources=tuple(args.sources), metres=_metres(args.metres) if args.metres else None, **request)
    )
    print(f"{told}\nscene: {args.out}\nreport: {Path(args.out) / 'report.md'}")
    print(f"next: python -m jaxhw.main --config=configs/nerfacto.py --config.scene={args.out} --workdir=runs/NAME")


def _metres(text: str) -> tuple[int, int, float]:
    """Two different points and a positive length."""
    try:
        first, second, length = text.split(",")
        parsed = int(first), int(second), float(length)
    except ValueError:
        parsed = (0, 0, 0.0)
    if parsed[0] == parsed[1] or not 0 < parsed[2] < 1e6:
        raise UserError(f"--metres={text} must be two points' ids and the metres between them, such as 1203,877,0.30")
    return parsed
