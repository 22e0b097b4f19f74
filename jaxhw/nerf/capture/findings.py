"""What a capture found out about each picture: its features, its matches, whether it has a pose, and if not why."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxhw.nerf.capture import colmap
from jaxhw.nerf.capture.poses import Attempt
from jaxhw.nerf.capture.record import Frames, Kept

FEW = 200  # features, below which a picture has hardly any texture, or is blurred


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture of a capture.

    Attributes:
      features: in it; 0 where masks or a blank wall leave none.
      matches: other pictures that show the same by at least `colmap.MATCHED` matches.
      registered: whether it has a pose.
      reason: why it has none, in a few words.
    """

    name: str
    source: str
    sharpness: float
    blurry: bool
    features: int
    matches: int
    registered: bool
    reason: str


def pictures(frames: Frames, database: Path, attempts: Sequence[Attempt]) -> list[Picture]:
    """Every picture that was kept, with what COLMAP made of it in the best of the attempts."""
    best = best_of(attempts)
    registered = set(best.best["images"]) if best and best.best else set()
    elsewhere = {name: model for model in (best.models[1:] if best else ()) for name in model["images"]}
    features, matched = colmap.features(database), colmap.matched(database)
    return [
        Picture(
            name=kept.name,
            source=kept.source,
            sharpness=round(kept.sharpness, 1),
            blurry=kept.blurry,
            features=features.get(kept.name, 0),
            matches=len(matched.get(kept.name, ())),
            registered=kept.name in registered,
            reason="" if kept.name in registered else _reason(kept, features, matched, registered, elsewhere),
        )
        for kept in frames.kept
    ]


def best_of(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt with the most pictures; of equals the one with the smaller error."""
    found = [attempt for attempt in attempts if attempt.best]
    return max(found, key=lambda a: (a.registered, -a.best["error"]), default=None)


def _reason(
    kept: Kept,
    features: Mapping[str, int],
    matched: Mapping[str, Sequence[str]],
    registered: set[str],
    elsewhere: Mapping[str, Any],
) -> str:
    count, partners = features.get(kept.name, 0), matched.get(kept.name, ())
    blurred = " (it is blurred)" if kept.blurry else ""
    if count < FEW:
        return f"{f'only {count}' if count else 'no'} features: blank walls, darkness or blur have none{blurred}"
    if kept.name in elsewhere:
        others = len(elsewhere[kept.name]["images"])
        return f"belongs to a second model of {others} pictures: another place, or pictures in between are missing"
    if not partners:
        return f"shows nothing that another picture shows{blurred}"
    if registered.isdisjoint(partners):
        return f"matches {len(partners)} pictures, but none that has a pose{blurred}"
    return f"matches {len(partners)} pictures, but too little of it fits their points{blurred}"
