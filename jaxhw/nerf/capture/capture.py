"""A capture, from a video or photos to a posed scene: frames, features, matches, poses, the scene and its report.

Every phase is done once (`ledger.py`); the same command goes on where it was stopped, and added photos extend it.
"""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxhw import files, lock
from jaxhw.decoding import WHITE
from jaxhw.durations import duration
from jaxhw.errors import UserError
from jaxhw.nerf.capture import colmap, features, findings, frames, masks, pictures, poses, report, scene_files
from jaxhw.nerf.capture.findings import best_of
from jaxhw.nerf.capture.given import given_model
from jaxhw.nerf.capture.ledger import Ledger, digest
from jaxhw.nerf.capture.poses import Attempt
from jaxhw.nerf.capture.record import Frames, Kept, Rejected
from jaxhw.nerf.scenes.report import say

LEAST = 3  # pictures with a pose that make a scene
WORK = "capture"  # the folder with COLMAP's files and what is done, within that of the scene


@dataclasses.dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
      sources: a video, or folders of photos.
      out: the scene's folder.
      frames: of a video, at most.
      white: the value that is white in photos of 16-bit grey.
      camera: COLMAP's model.
      shared: one of `features.SHARED`.
      masks: a folder of PNGs named like the pictures, black where nothing is to be learnt. They are copied to
        `out`/masks, and what lies there counts.
      metres: ids of two points and the distance between them.
      colmap: a model that exists: no poses are looked for.
    """

    sources: tuple[Path, ...]
    out: Path
    frames: int = 300
    white: int = WHITE
    camera: str = "SIMPLE_RADIAL"
    shared: str = "folder"
    masks: Path | None = None
    metres: tuple[int, int, float] | None = None
    colmap: Path | None = None


def run(request: Request) -> str:
    """Makes the scene; returns a line on what it holds.

    Raises:
      UserError: no scene comes of it; the report in the folder says why where poses were looked for.
    """
    out, work = request.out, request.out / WORK
    _check_places(request)
    with lock.held(work, flag="--out"):
        ledger = Ledger(work / "done.json")
        if request.colmap:
            taken = given_model(ledger, request.sources, out, request.colmap)
            attempts = [Attempt(f"the model in {request.colmap}", [colmap.run(work, "inspect", model=taken.model)])]
            return _finish(request, ledger, taken.frames, attempts)
        found = _frames(request, ledger)
        if request.masks:
            masks.place(request.masks, out / "images", {kept.name: kept.source for kept in found.kept}, out / "masks")
        given = out / "masks" if (out / "masks").is_dir() else None
        count = len(found.kept)
        if not ledger.phases.get("features"):
            few, many = map(duration, poses.estimate(found.video, count))
            say(f"the poses of {count} pictures take about {few} where they have little texture, {many} where much")
        key = features.extract(ledger, work, out / "images", given, request.camera, request.shared)
        names = [kept.name for kept in found.kept]
        attempts = poses.find(ledger, work, out / "images", names, found.video, key)
        return _finish(request, ledger, found, attempts)


def _check_places(request: Request) -> None:
    """Raises a UserError where the capture would write among its sources, or over what another program wrote."""
    out = request.out.resolve()
    for source in request.sources:
        place = source.resolve()
        if place.is_relative_to(out) or (source.is_dir() and out.is_relative_to(place)):
            raise UserError(f"--out={request.out} and {source} lie in each other: choose a folder of its own for --out")
    if (out / "images").exists() and not (out / WORK / "done.json").exists():
        raise UserError(f"--out={request.out} has pictures that no capture put there; choose a new or empty folder")


def _frames(request: Request, ledger: Ledger) -> Frames:
    """The capture's pictures, in `out`/images."""
    images, partial = request.out / "images", request.out / WORK / "images"

    def extract() -> dict[str, Any]:
        shutil.rmtree(partial, ignore_errors=True)
        with files.naming(images, partial):
            found = frames.extract(request.sources, partial, request.frames, request.white)
        shutil.rmtree(images, ignore_errors=True)
        partial.rename(images)
        return dataclasses.asdict(found)

    key = digest(frames.fingerprint(request.sources), request.frames, request.white)
    done = ledger.phase("frames", key, extract, [images])
    kept = [Kept(**(fields | {"size": tuple(fields["size"])})) for fields in done["kept"]]
    found = Frames(kept, [Rejected(**fields) for fields in done["rejected"]], done["video"])
    say(f"frames: {len(kept)} pictures kept, {len(found.rejected)} left out, {sum(k.blurry for k in kept)} blurred")
    return found


def _finish(request: Request, ledger: Ledger, found: Frames, attempts: Sequence[Attempt]) -> str:
    """Writes the scene and the report."""
    out, best = request.out, best_of(attempts)
    enough = best is not None and best.registered >= LEAST
    exported = None
    if enough:
        key = digest(best.best, request.metres, [kept.name for kept in found.kept])
        needs = [out / "sparse" / "0" / "images.bin", out / "transforms.json"]
        exported = ledger.phase("scene", key, lambda: _export(request, best), needs)
    told = findings.pictures(found, out / WORK / "database.db", attempts)
    sources = [str(source) for source in request.sources]
    report.write(out, report.Outcome(sources, found, told, attempts, exported, ledger.seconds()))
    if found.kept:
        pictures.contact_sheet(out, told)
    if not enough:
        ledger.forget("scene")
        raise UserError(f"{_too_few(best, len(told))}: {_why(told)}; see {out / 'report.md'}")
    pictures.cameras(out)
    pictures.points(out, exported["points"])
    odd = len(told) - best.registered
    rest = f", {odd} have none (see {out / 'report.md'})" if odd else ""
    return f"{best.registered} of {len(told)} pictures have a pose{rest}; {best.best['points']:,} points"


def _export(request: Request, best: Attempt) -> dict[str, Any]:
    out = request.out
    exported = colmap.run(
        out / WORK,
        "export",
        model=best.best["folder"],
        out=str(out / "sparse" / "0"),
        ply=str(out / scene_files.PLY),
        metres=request.metres,
    )
    if exported["missing"]:
        ids = ", ".join(map(str, exported["missing"]))
        raise UserError(
            f"--metres names the point {ids}, which the model does not have; report.md lists some that it has"
        )
    scene_files.write(out)
    return exported


def _too_few(best: Attempt | None, count: int) -> str:
    if best is None:
        return f"none of {count} pictures has a pose"
    return f"only {best.registered} of {count} pictures have a pose, and a scene takes {LEAST}"


def _why(told: Sequence[findings.Picture]) -> str:
    """The most common reason why a picture has no pose, without its numbers."""
    reasons = [picture.reason for picture in told if picture.reason]
    return max(reasons, key=reasons.count, default="there are too few pictures")
