"""A workdir that a run may still be writing into: its newest checkpoint and its progress, looked for now and then."""

import time
from collections.abc import Callable
from pathlib import Path

from jaxhw import checkpoint, metrics
from jaxhw.errors import UserError, one_line, warn
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.viewer.viewer import Viewer

EVERY = 3.0  # seconds


class Following:
    """Keeps a viewer up to date with its workdir.

    Args:
      open_run: opens the workdir anew, as it is now.
    """

    def __init__(self, viewer: Viewer, workdir: Path, open_run: Callable[[], Run], steps: int):
        self.viewer, self.workdir, self.open_run, self.steps = viewer, workdir, open_run, steps
        self.seen = self.shown = checkpoint.newest(workdir)
        self.looked = 0.0

    def look(self) -> None:
        """Looks, if it is time to. What cannot be read is told, and what was read stays on show."""
        if time.perf_counter() - self.looked < EVERY:
            return
        self.looked = time.perf_counter()
        try:
            self._look()
        except (UserError, OSError) as error:
            self._tell(one_line(str(error)))

    def _look(self) -> None:
        if not self.workdir.is_dir():
            self._tell(f"{self.workdir} is not there any more; what was read of it is still shown")
            return
        newest = checkpoint.newest(self.workdir)
        if newest is not None and newest != self.seen:
            self.seen = newest  # whatever comes of it: one that cannot be read is not tried again
            self.viewer.update(self.open_run())
            self.shown = newest
        line, step = summary(metrics.read(self.workdir / "metrics.jsonl"))
        shown = "" if self.shown is None else f"shown: step {self.shown}; "
        self.viewer.tell(f"{shown}{line}", step / max(self.steps, 1))

    def _tell(self, line: str) -> None:
        warn(line)
        self.viewer.tell(line)


def summary(lines: list[dict]) -> tuple[str, int]:
    """(the newest step with the newest PSNRs and throughput, that step), of the lines of a metrics.jsonl."""
    numbers: dict[str, float] = {}
    for line in lines:
        numbers |= {k: v for k, v in line.items() if v is not None and ("psnr" in k or k == "rays_per_second")}
    step = lines[-1]["step"] if lines else 0
    return "  ".join([f"step {step}", *(f"{name} {value:.4g}" for name, value in numbers.items())]), step
