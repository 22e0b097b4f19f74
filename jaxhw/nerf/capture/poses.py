"""Poses for a capture's pictures: features, matches, structure from motion, and a ladder of more costly attempts.

Where fewer than `ENOUGH` of the pictures get a pose, the next rung is tried: more pairs are matched, then another kind
of mapping. The best attempt is kept.
"""

import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxhw.nerf.capture import colmap
from jaxhw.nerf.capture.ledger import Ledger, digest
from jaxhw.nerf.scenes import report

ENOUGH = 0.8  # share of the pictures that must have a pose for no further attempt
EXHAUSTIVE = 150  # photos, of which all pairs are matched at once
TOO_MANY = 600  # pictures, of which all pairs would take hours
# CPU seconds, measured at about 0.4 megapixels: a picture's features, a pair's match, a picture's share of the mapping.
PER_PICTURE, PER_PAIR, PER_POSE = 0.4, 0.012, 0.17


@dataclasses.dataclass(frozen=True)
class Rung:
    """One attempt: which pairs are matched in addition to those before ("" for none), and how poses are found."""

    matching: str
    overlap: int
    mapping: str

    @property
    def label(self) -> str:
        pairs = {
            "sequential": f"sequential matching, overlap {self.overlap}",
            "retrieval": f"matching with the {self.overlap} most alike",
            "exhaustive": "exhaustive matching",
            "": "the same matches",
        }
        return f"{pairs[self.matching]}, {self.mapping} mapping"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What a rung brought: `models` as `colmap_worker` sums them up, the one with the most pictures first."""

    label: str
    models: list[dict[str, Any]]

    @property
    def best(self) -> dict[str, Any] | None:
        return self.models[0] if self.models else None

    @property
    def registered(self) -> int:
        return len(self.best["images"]) if self.best else 0


def rungs(video: bool, count: int) -> list[Rung]:
    """The ladder for `count` pictures."""
    exhaustive = [Rung("exhaustive", 0, "incremental")] if count <= TOO_MANY else []
    if video:
        first = [Rung("sequential", 10, "incremental"), Rung("sequential", 30, "incremental")]
    elif count <= EXHAUSTIVE:
        first = []
    else:
        first = [Rung("retrieval", 50, "incremental"), Rung("retrieval", 100, "incremental")]
    return [*first, *exhaustive, Rung("", 0, "global")]


def pairs_of(rung: Rung, count: int) -> int:
    """About how many pairs of `count` pictures a rung matches."""
    everything = count * (count - 1) // 2
    if rung.matching == "exhaustive":
        return everything
    loops = count // 10 * min(50, 2 * rung.overlap) if rung.matching == "sequential" else 0
    # The overlap next ones, and as many again at doubling distances as there are.
    return min(everything, count * (rung.overlap + max(0, count.bit_length() - 4)) + loops)


def estimate(video: bool, count: int) -> float:
    """Seconds that the poses of `count` pictures take on this machine if the first attempt is enough."""
    pairs = pairs_of(rungs(video, count)[0], count)
    return (count * (PER_PICTURE + PER_POSE) + pairs * PER_PAIR) / min(os.cpu_count() or 1, 8) * 1.5


def find(ledger: Ledger, work: Path, images: Path, names: Sequence[str], video: bool, key: str) -> list[Attempt]:
    """Climbs the ladder; returns the attempts, the last tried last.

    Args:
      work: COLMAP's folder, with the pictures' features in its database.
      key: of all that the features depend on.
    """
    attempts, count, vocabulary = [], len(names), work / "vocabulary.bin"
    for number, rung in enumerate(rungs(video, count), 1):
        key = digest(key, dataclasses.asdict(rung))
        if rung.matching in ("sequential", "retrieval"):
            make = lambda: colmap.run(work, "vocabulary", database=str(work / "database.db"), path=str(vocabulary))
            ledger.phase("vocabulary", digest(key), make, [vocabulary]) if number == 1 else None
        if rung.matching:
            ledger.phase(f"matches {number}", key, _matching(work, rung, count, vocabulary))
        out = work / "models" / str(number)
        models = ledger.phase(f"model {number}", key, _mapping(work, images, out, rung.mapping, count), [out])
        models.sort(key=lambda model: (-len(model["images"]), model["error"]))
        attempts.append(Attempt(rung.label, models))
        report.say(f"{rung.label}: {told(attempts[-1], count)}")
        if attempts[-1].registered >= ENOUGH * count:
            break
    return attempts


def told(attempt: Attempt, count: int) -> str:
    """What an attempt brought, in words."""
    best = attempt.best
    if not best:
        return f"none of {count} pictures has a pose"
    return f"{attempt.registered} of {count} pictures have a pose; {best['points']} points, {best['error']:.2f} px"


def _matching(work: Path, rung: Rung, count: int, vocabulary: Path) -> Callable[[], Any]:
    def match() -> int:
        database = work / "database.db"
        total = colmap.count_pairs(database) + pairs_of(rung, count)
        progress = colmap.Progress("matching pairs", total, lambda: colmap.count_pairs(database))
        words = str(vocabulary) if rung.matching != "exhaustive" else ""
        given = {"kind": rung.matching, "overlap": rung.overlap, "vocabulary": words}
        colmap.run(work, "matches", progress, database=str(database), **given)
        return colmap.count_pairs(database)

    return match


def _mapping(work: Path, images: Path, out: Path, kind: str, count: int) -> Callable[[], Any]:
    def mapping() -> list[dict[str, Any]]:
        shutil.rmtree(out, ignore_errors=True)
        counter = work / "posed"
        counter.unlink(missing_ok=True)
        posed = lambda: counter.stat().st_size if counter.exists() else 0
        progress = colmap.Progress("finding poses", count, posed) if kind == "incremental" else None
        where = {"database": str(work / "database.db"), "images": str(images), "out": str(out)}
        return colmap.run(work, "mapping", progress, **where, kind=kind, counter=str(counter))

    return mapping
