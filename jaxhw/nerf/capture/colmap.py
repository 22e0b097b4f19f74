"""COLMAP as a capture uses it: each step a process of its own, watched through COLMAP's database.

The child ends with this process, however that ends. What it prints goes to a log file; what goes wrong in it is one
line.
"""

import dataclasses
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from jaxhw import streams
from jaxhw.errors import DISK, UserError

PAUSE = 0.2  # seconds between two looks at the database
MATCHED = 15  # inliers from which on two pictures count as matched: COLMAP's own limit
TELLING = re.compile(r"^[EF]\d{8}|\w*Error\b|Check failed|error:")  # lines of a log that say what went wrong
PAIRS = 2**31 - 1  # a pair's number is this times the smaller image's number, and the other's


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is shown while a step runs: `what`, and how many of `total` are done by `count`."""

    what: str
    total: int
    count: Callable[[], int]


def run(work: Path, step: str, progress: Progress | None = None, **arguments: Any) -> Any:
    """What a step of `colmap_worker` returns.

    Args:
      work: the folder for COLMAP's files, `database.db` and `colmap.log` among them.

    Raises:
      UserError: COLMAP ended without a result.
    """
    with tempfile.TemporaryDirectory(dir=work) as folder:
        given, result = Path(folder) / "arguments.json", Path(folder) / "result.json"
        given.write_text(json.dumps(arguments))
        command = [sys.executable, "-m", "jaxhw.nerf.capture.colmap_worker", step, str(given), str(result)]
        with (work / "colmap.log").open("ab") as log:
            start = log.tell()
            # A group of its own: Ctrl-C in a terminal reaches us alone. It ends when its standard input does.
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
            try:
                _watch(child, progress)
            finally:
                child.kill()
                child.wait()
        if child.returncode != 0 or not result.exists():
            raise UserError(_failure(work / "colmap.log", start, step, child.returncode))
        return json.loads(result.read_text())


def _watch(child: subprocess.Popen, progress: Progress | None) -> None:
    """Waits for a child and shows how far it is."""
    if not progress:
        child.wait()
        return
    meter, done = streams.counter(progress.what, progress.total), 0
    try:
        while child.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(PAUSE)
            now = max(done, min(progress.total, progress.count()))
            meter.update(now - done)
            done = now
        if child.returncode == 0:
            meter.update(progress.total - done)
    finally:
        meter.close()


def query(database: Path, ask: Callable[[sqlite3.Connection], Any], otherwise: Any) -> Any:
    """What `ask` reads from COLMAP's database, which may be in use; `otherwise` where it cannot be read just now."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            return ask(connection)
    except sqlite3.Error:
        return otherwise


def count_features(database: Path) -> int:
    """Pictures whose features are in the database."""
    return query(database, lambda c: c.execute("SELECT COUNT(*) FROM keypoints").fetchone()[0], 0)


def count_pairs(database: Path) -> int:
    """Pairs of pictures that have been matched, with or without success."""
    return query(database, lambda c: c.execute("SELECT COUNT(*) FROM two_view_geometries").fetchone()[0], 0)


def features(database: Path) -> dict[str, int]:
    """How many features each picture has, by its name."""
    ask = "SELECT name, rows FROM images JOIN keypoints USING (image_id)"
    return dict(query(database, lambda connection: connection.execute(ask).fetchall(), []))


def matched(database: Path) -> dict[str, list[str]]:
    """With which other pictures each one shares a geometry, by name."""
    ask = lambda c: (
        dict(c.execute("SELECT image_id, name FROM images").fetchall()),
        c.execute("SELECT pair_id FROM two_view_geometries WHERE rows >= ?", (MATCHED,)).fetchall(),
    )
    names, pairs = query(database, ask, ({}, []))
    found: dict[str, list[str]] = {name: [] for name in names.values()}
    for (pair,) in pairs:
        a, b = names.get(pair // PAIRS), names.get(pair % PAIRS)
        if a and b:
            found[a].append(b)
            found[b].append(a)
    return found


def _failure(log: Path, start: int, step: str, code: int) -> str:
    """One line for a step that failed, out of what it wrote into the log from byte `start` on."""
    with log.open("rb") as file:
        file.seek(max(start, os.fstat(file.fileno()).st_size - 10_000))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    for reason in (*DISK, "disk I/O error"):  # the last is SQLite's word for a limit
        if any(reason in line for line in lines):
            return f"cannot write {log.parent}: {reason}; mend that and run the same command: finished phases stay"
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    if code == -signal.SIGKILL:
        ended += " (perhaps for want of memory)"
    telling = [line for line in lines if TELLING.search(line)] or lines or ["it said nothing"]
    return f"COLMAP {ended} in the step {step}: {telling[-1]}; see {log}"
