"""Damages files and reads them: `python -m tests.fuzz.fuzz SECONDS [SEED]`, from the checkout.

Every reader must load what it is given or say in one line what is wrong, quickly and within a gigabyte. What does
neither is kept beside the report, with the seed and the number of the try.
"""

import contextlib
import dataclasses
import io
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jaxhw.errors import UserError
from tests.fuzz import targets

TOKENS = (b"null", b"{}", b"[]", b"NaN", b"1e999", b"9" * 400, b"-1", b"\xff", b"\0", b"[[[[", b"true", b"\n\n", b"57")
VALUES = (None, {}, [], "x", -1, 0, 1.5, True, 2**62, -1e300, [[1]], {"a": 1}, "$_$", "..", [None] * 3, 1e308)
SLOW = 10.0  # seconds: more is a hang


@dataclasses.dataclass
class Report:
    """What has been tried: files, how many were loaded or refused in one line, and what did neither."""

    files: int = 0
    loaded: int = 0
    refused: int = 0
    slowest: float = 0.0
    faults: list[str] = dataclasses.field(default_factory=list)

    @property
    def megabytes(self) -> float:
        """The most memory that this process has taken."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def __str__(self) -> str:
        return (
            f"{self.files} files: {self.loaded} loaded, {self.refused} refused in one line, {len(self.faults)} faults; "
            f"slowest {self.slowest:.1f} s, memory {self.megabytes:.0f} MB at most"
        )


def run(seconds: float, seed: int, folder: Path) -> Report:
    """Damages one file after the other for a while; the same seed damages the same way."""
    files, rng, report = targets.write(folder), random.Random(seed), Report()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        target = rng.choice(files)
        sound = target.path.read_bytes()
        target.path.write_bytes(damaged(sound, rng))
        _try(target, report, f"seed {seed}, file {report.files}, {target.path.relative_to(folder)}")
        target.path.write_bytes(sound)
    return report


def _try(target: targets.Target, report: Report, what: str) -> None:
    began = time.monotonic()
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            target.read()
        report.loaded += 1
    except UserError as error:
        report.refused += 1
        if "\n" in str(error):
            report.faults.append(f"{what}: more than one line: {error}")
    except Exception as error:
        report.faults.append(f"{what}: {type(error).__name__}: {error}")
    took = time.monotonic() - began
    if took > SLOW:
        report.faults.append(f"{what}: {took:.0f} s")
    report.files += 1
    report.slowest = max(report.slowest, took)


def damaged(sound: bytes, rng: random.Random) -> bytes:
    """A file's bytes cut, flipped, repeated or with others put in; of JSON, half of the time, one value exchanged."""
    if sound[:1] in b"{[" and rng.random() < 0.5:
        with contextlib.suppress(ValueError):
            return _another_value(json.loads(sound), rng)
    data = bytearray(sound)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(min(len(data), 300) if rng.random() < 0.5 else len(data))
        match rng.randrange(5):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.choice((rng.randrange(256), 0, 255))
            case 2:
                data[place : place + rng.randrange(12)] = rng.choice(TOKENS)
            case 3:
                data[place:place] = data[rng.randrange(len(data)) :][:20]
            case 4 if rng.random() < 0.3:
                del data[place:]
        data = data or bytearray(b" ")
    return bytes(data)


def _another_value(tree: Any, rng: random.Random) -> bytes:
    """JSON with one value of the tree exchanged, or taken away."""
    inner = list(_containers(tree))
    container = rng.choice(inner)
    key = rng.choice(list(container) if isinstance(container, dict) else range(len(container)))
    if rng.random() < 0.2:
        del container[key]
    else:
        container[key] = rng.choice(VALUES)
    return json.dumps(tree).encode()


def _containers(tree: Any) -> list[Any]:
    """Every dict and list within that holds something."""
    if not isinstance(tree, (dict, list)) or not tree:
        return []
    children = tree.values() if isinstance(tree, dict) else tree
    return [tree, *(found for child in children for found in _containers(child))]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as there:
        done = run(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, Path(there))
    print(done, *done.faults, sep="\n")
    sys.exit(bool(done.faults))
