"""report.md and report.json: what became of every frame, how good the poses are, and where the time went."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxhw import files, json_file
from jaxhw.nerf.capture.findings import Picture, best_of
from jaxhw.nerf.capture.poses import ENOUGH, Attempt, told
from jaxhw.nerf.capture.record import Frames

LISTED = 20  # points that report.md names; report.json has all well-seen ones


@dataclasses.dataclass(frozen=True)
class Outcome:
    """All that a capture found out.

    Attributes:
      sources: what was captured, as the user named it.
      exported: what `colmap_worker.export` returned; None where no picture has a pose.
      seconds: that each phase took.
    """

    sources: Sequence[str]
    frames: Frames
    pictures: Sequence[Picture]
    attempts: Sequence[Attempt]
    exported: Mapping[str, Any] | None
    seconds: Mapping[str, float]


def write(out: Path, outcome: Outcome) -> None:
    """Writes both reports into `out`."""
    frames, pictures, attempts, exported = outcome.frames, outcome.pictures, outcome.attempts, outcome.exported
    best = best_of(attempts)
    content = {
        "sources": list(outcome.sources),
        "kept": len(frames.kept),
        "rejected": [dataclasses.asdict(rejected) for rejected in frames.rejected],
        "registered": best.registered if best else 0,
        "points": best.best["points"] if best else 0,
        "reprojection_error": best.best["error"] if best else None,
        "cameras": best.best["cameras"] if best else [],
        "scale": exported["scale"] if exported else None,
        "attempts": [{"label": a.label, "models": [len(m["images"]) for m in a.models]} for a in attempts],
        "pictures": [dataclasses.asdict(picture) for picture in pictures],
        "well_seen_points": exported["points"] if exported else [],
        "seconds": dict(outcome.seconds),
    }
    files.write_json(out / "report.json", json_file.known(content))
    sections = (_summary(content), _attempts(attempts, len(pictures)), _pictures(pictures), _rejected(frames))
    parts = [*sections, _points(exported) if exported else "", _seconds(outcome.seconds)]
    files.write(out / "report.md", "\n\n".join(part for part in parts if part) + "\n")


def _summary(content: Mapping[str, Any]) -> str:
    kept, registered, rejected = content["kept"], content["registered"], len(content["rejected"])
    lines = [
        f"# Capture of {', '.join(content['sources'])}",
        "",
        f"- pictures: {kept} kept, {rejected} frames or files left out",
        f"- poses: {registered} of {kept} pictures",
    ]
    if registered:
        lines += [
            f"- points: {content['points']:,}; mean reprojection error {content['reprojection_error']:.2f} px",
            *(f"- camera: {_camera(camera)}" for camera in content["cameras"]),
            f"- scale: {'as COLMAP chose it' if content['scale'] == 1 else 'metres'}",
        ]
        lines += ["", "![cameras around the points](report/cameras.png)"]
    if kept:
        lines += ["", "![all pictures](report/contact_sheet.jpg)"]
    if registered < ENOUGH * kept:
        lines += [
            "",
            "Few pictures have a pose. What helps: more overlap (move slowly, go round twice), a subject with",
        ]
        lines += ["texture, sharp pictures, no zoom; and nothing that moves along with the camera."]
    return "\n".join(lines)


def _camera(camera: Mapping[str, Any]) -> str:
    width, height = camera["size"]
    return f"{camera['model']} {width} x {height}: {', '.join(f'{value:.5g}' for value in camera['parameters'])}"


def _attempts(attempts: Sequence[Attempt], count: int) -> str:
    return "\n".join(["## Attempts", "", *(f"{i}. {a.label}: {told(a, count)}" for i, a in enumerate(attempts, 1))])


def _pictures(pictures: Sequence[Picture]) -> str:
    """A table of what is wrong with pictures; all of them are in report.json."""
    odd = [picture for picture in pictures if picture.blurry or not picture.registered]
    features = sorted(picture.features for picture in pictures)
    lines = ["## Pictures", ""]
    if features:
        lines += [f"Features in a picture: {features[0]} to {features[-1]}, median {features[len(features) // 2]}.", ""]
    if not odd:
        return "\n".join([*lines, "All have a pose, and none is blurred."])
    lines += ["| picture | from | features | matches | pose | remark |", "|---|---|---|---|---|---|"]
    for p in odd:
        remark = p.reason or "less sharp than those around it"
        pose = "yes" if p.registered else "no"
        lines.append(f"| {p.name} | {_cell(p.source)} | {p.features} | {p.matches} | {pose} | {remark} |")
    return "\n".join(lines)


def _rejected(frames: Frames) -> str:
    """Of a video most frames were left out for a sharper one: those are counted, the others named."""
    if not frames.rejected:
        return ""
    plain = [r for r in frames.rejected if r.reason.startswith("less sharp than")]
    others = [r for r in frames.rejected if not r.reason.startswith("less sharp than")]
    lines = ["## Left out", ""]
    if plain:
        lines.append(f"{len(plain)} frames are less sharp than the one that was kept of their stretch of time.\n")
    return "\n".join(lines + [f"- {_cell(r.source)}: {_cell(r.reason)}" for r in others])


def _points(exported: Mapping[str, Any]) -> str:
    """Points that can be named with --metres."""
    lines = [
        "## Scale",
        "",
        "Measure the distance between two of these points on the real thing, and give it in metres:",
        "`--metres=ID,ID,0.30`. [The pictures that show them](report/points.jpg); the list in report.json is longer.",
        "",
        "| point | seen in | error (px) | position |",
        "|---|---|---|---|",
    ]
    for point in exported["points"][:LISTED]:
        place = ", ".join(f"{value:.3f}" for value in point["position"])
        lines.append(f"| {point['id']} | {len(point['seen'])} pictures | {point['error']:.2f} | {place} |")
    return "\n".join(lines)


def _seconds(seconds: Mapping[str, float]) -> str:
    rows = [f"| {name} | {value:.1f} |" for name, value in {**seconds, "all": sum(seconds.values())}.items()]
    return "\n".join(["## Time", "", "| phase | seconds |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
