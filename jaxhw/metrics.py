"""Where numbers go: metrics.jsonl, TensorBoard."""

import json
import math
from pathlib import Path
from typing import Any

from jaxhw import errors, files, json_file
from jaxhw.logs import Board, Lines

# What results.json may say beside the task's own numbers.
_RESULTS = {"task?": str, "seed?": int, "steps?": int, "epochs?": float, "seconds?": float, "parameters?": int}
_RESULTS |= {"dataset?": str, "devices?": str, "revision?": str, "collapsed?": bool}


class Writer:
    """Appends numbers to a workdir's metrics.jsonl and TensorBoard files.

    A run that resumes at ``step`` first drops the lines after it (the run that was killed had gone on), so that
    no step stands there twice.

    Attributes:
      elapsed: the time in seconds up to that step.
      evaluated: whether an evaluation stands there for that very step; a log's line has a learning rate, one of an
        evaluation has none.
    """

    def __init__(self, workdir: Path, step: int):
        path = workdir / "metrics.jsonl"
        lines, damaged = _parse(path)
        if damaged:
            errors.warn(f"{_told(path, damaged)} as it was it is kept in {files.keep_damaged(path)}")
        kept = [line for line in lines if line["step"] <= step]
        self.elapsed = kept[-1]["time"] if kept else 0.0
        self.evaluated = any(line["step"] == step and "lr" not in line for line in kept)
        files.write(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._lines = Lines(path)
        self._board = Board(workdir / "tensorboard", step + 1)

    def write(self, step: int, seconds: float, numbers: dict[str, float]) -> None:
        rounded = {name: _significant(value) for name, value in numbers.items()}
        self._lines.write(json.dumps({"step": step, "time": round(seconds, 2), **rounded}) + "\n")
        self._board.write(step, numbers)

    def close(self) -> None:
        self._lines.close()
        self._board.close()


class Silent:
    """The writer of every process but the first."""

    elapsed = 0.0
    evaluated = True  # the first process knows

    def write(self, step: int, seconds: float, numbers: dict[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


def read(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl; a last line torn by a kill is left out, a missing file is empty.

    Damaged lines are left out as well, with a warning.
    """
    lines, damaged = _parse(path)
    if damaged:
        errors.warn(f"{_told(path, damaged)} when the run continues, it keeps a copy of the file as it is")
    return lines


def results(workdir: Path) -> dict[str, Any]:
    """A workdir's results.json; empty where the run is not finished.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / "results.json"
    advice = "delete it, and the command that trained the run writes it anew from the checkpoint"
    try:
        found = json_file.read(path, _RESULTS, advice, nan_is_null=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if not found:
        raise errors.UserError(f"{path} is damaged (it holds nothing); {advice}")
    return found


def _parse(path: Path) -> tuple[list[dict], list[int]]:
    """The sound lines of a metrics.jsonl, and the numbers of the damaged ones, counted from 1."""
    try:
        *whole, torn = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    except IsADirectoryError:
        raise errors.UserError(f"{path} is a folder, where a file of numbers should be: move it away") from None
    found = [_line(text) for text in whole]
    damaged = [number for number, line in enumerate(found, 1) if line is None]
    return [line for line in (*found, _line(torn)) if line is not None], damaged


def _line(text: bytes) -> dict | None:
    """One line's numbers; None where it is damaged: it needs a step and a time, and holds numbers and nulls only."""
    try:
        line = json_file.parse(text)
    except json_file.Damaged:
        return None
    sound = (
        isinstance(line, dict)
        and type(line.get("step")) is int
        and type(line.get("time")) in (int, float)
        and all(value is None or is_number(value) for value in line.values())
    )
    return line if sound else None


def is_number(value: Any) -> bool:
    """Whether a value is a number that a run may have computed: one whose square can still be added up."""
    return type(value) in (int, float) and abs(value) < 1e100


def _told(path: Path, damaged: list[int]) -> str:
    count = f"line {damaged[0]} is" if len(damaged) == 1 else f"{len(damaged)} lines, the first line {damaged[0]}, are"
    return f"{path}: {count} damaged and left out;"


def _significant(value: float) -> float | None:
    """Nine digits tell any two float32 apart; JSON has no NaN."""
    return float(f"{value:.9g}") if math.isfinite(value) else None
