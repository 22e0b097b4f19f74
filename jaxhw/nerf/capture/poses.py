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

import numpy as np

from jaxhw import files
from jaxhw.nerf.capture import colmap, pairs
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
        matching = {
            "sequential": f"sequential matching, overlap {self.overlap}",
            "retrieval": f"matching with the {self.overlap} most alike",
            "exhaustive": "exhaustive matching",
            "": "the same matches",
        }
        return f"{matching[self.matching]}, {self.mapping} mapping"


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


def estimate(video: bool, count: int) -> tuple[float, float]:
    """Seconds that the poses of `count` pictures take if the first attempt is enough: with few features, with many."""
    rung = rungs(video, count)[0]
    partly = {"sequential": count * (rung.overlap + count.bit_length()), "retrieval": count * rung.overlap}
    of_pairs = partly.get(rung.matching, count * (count - 1) // 2)
    cores = min(os.cpu_count() or 1, 8)
    few = (count * PER_PICTURE + of_pairs * PER_PAIR) / cores + count * PER_POSE
    return few, 4 * few


def find(ledger: Ledger, work: Path, images: Path, names: Sequence[str], video: bool, key: str) -> list[Attempt]:
    """Climbs the ladder; returns the attempts, the last tried last.

    Args:
      work: COLMAP's folder, with the pictures' features in its database.
      key: of all that the features depend on.
    """
    attempts, count = [], len(names)
    alike = lambda: np.array(ledger.phase("likeness", digest(key, names), lambda: _likeness(work, names)))
    for number, rung in enumerate(rungs(video, count), 1):
        chosen = sorted(_pairs(rung, count, alike))
        key = digest(key, chosen, rung.mapping)
        if chosen:
            named = [(names[i], names[j]) for i, j in chosen]
            ledger.phase(f"matches {number}", key, lambda named=named: _match(work, named))
        out = work / "models" / str(number)
        mapping = lambda out=out, kind=rung.mapping: _map(work, images, out, kind, count)
        models = ledger.phase(f"model {number}", key, mapping, [out])
        models.sort(key=lambda model: (-len(model["images"]), model["error"]))
        attempts.append(Attempt(rung.label, models))
        report.say(f"{rung.label}: {told(attempts[-1], count)}")
        if attempts[-1].registered >= ENOUGH * count:
            break
    return attempts


def _pairs(rung: Rung, count: int, alike: Callable[[], np.ndarray]) -> set[tuple[int, int]]:
    if rung.matching == "sequential":
        return pairs.sequential(count, rung.overlap) | pairs.loops(alike())
    if rung.matching == "retrieval":
        return pairs.retrieval(alike(), rung.overlap)
    return pairs.exhaustive(count) if rung.matching == "exhaustive" else set()


def told(attempt: Attempt, count: int) -> str:
    """What an attempt brought, in words."""
    best = attempt.best
    if not best:
        return f"none of {count} pictures has a pose"
    return f"{attempt.registered} of {count} pictures have a pose; {best['points']} points, {best['error']:.2f} px"


def _likeness(work: Path, names: Sequence[str]) -> list[list[float]]:
    return colmap.run(work, "likeness", database=str(work / "database.db"), names=list(names))


def _match(work: Path, named: Sequence[tuple[str, str]]) -> int:
    """Matches pairs of names; returns how many pairs the database holds then."""
    database, listed = work / "database.db", work / "pairs.txt"
    files.write(listed, "".join(f"{a} {b}\n" for a, b in named))
    before = colmap.count_pairs(database)
    progress = colmap.Progress("matching pairs", len(named), lambda: colmap.count_pairs(database) - before)
    colmap.run(work, "matches", progress, database=str(database), pairs=str(listed))
    return colmap.count_pairs(database)


def _map(work: Path, images: Path, out: Path, kind: str, count: int) -> list[dict[str, Any]]:
    """Structure from motion into `out`; returns the models that it made."""
    shutil.rmtree(out, ignore_errors=True)
    counter = work / "posed"
    counter.unlink(missing_ok=True)
    posed = lambda: counter.stat().st_size if counter.exists() else 0
    progress = colmap.Progress("finding poses", count, posed) if kind == "incremental" else None
    where = {"database": str(work / "database.db"), "images": str(images), "out": str(out)}
    return colmap.run(work, "mapping", progress, **where, kind=kind, counter=str(counter))
