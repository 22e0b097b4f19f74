"""Where numbers go: metrics.jsonl, TensorBoard, the revision that a result belongs to."""

import json
import math
import subprocess
from importlib import metadata
from pathlib import Path

from tensorboardX import SummaryWriter

from jaxhw import files


class Writer:
    """Appends numbers to a workdir's metrics.jsonl and TensorBoard files.

    A run that resumes at ``step`` first drops the lines after it (the run that was killed had gone on), so that
    no step stands there twice; ``elapsed`` is the time in seconds up to that step.
    """

    def __init__(self, workdir: Path, step: int):
        path = workdir / "metrics.jsonl"
        kept = [line for line in read(path) if line["step"] <= step]
        self.elapsed = kept[-1]["time"] if kept else 0.0
        files.write(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._lines = path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, seconds: float, numbers: dict[str, float]) -> None:
        rounded = {name: _significant(value) for name, value in numbers.items()}
        self._lines.write(json.dumps({"step": step, "time": round(seconds, 2), **rounded}) + "\n")
        self._lines.flush()
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._lines.close()
        self._board.close()


class Silent:
    """The writer of every process but the first."""

    elapsed = 0.0

    def write(self, step: int, seconds: float, numbers: dict[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


def read(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl; a last line torn by a kill is left out, a missing file is empty."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def revision() -> str:
    """The git revision of this code (``-dirty`` with local changes), or the installed version."""
    here = Path(__file__).resolve().parent.parent
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]
        inside = (here / ".git").exists()
        return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip() if inside else _version()
    except (OSError, subprocess.CalledProcessError):
        return _version()


def _version() -> str:
    try:
        return metadata.version("jaxhw")
    except metadata.PackageNotFoundError:
        return "unknown"


def _significant(value: float) -> float | None:
    """Nine digits tell any two float32 apart; JSON has no NaN."""
    return float(f"{value:.9g}") if math.isfinite(value) else None
