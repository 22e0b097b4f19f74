"""Follows a workdir that a run may still be writing into: polls its newest checkpoint and its progress."""

from collections.abc import Callable
from pathlib import Path

from jaxhw import checkpoint, metrics
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.viewer.viewer import Viewer
from jaxhw.polling import Poller


class Following(Poller):
    """Keeps a viewer up to date with its workdir.

    Args:
      open_run: opens the workdir anew, as it is now.
    """

    def __init__(self, viewer: Viewer, workdir: Path, open_run: Callable[[], Run], steps: int):
        super().__init__(workdir)
        self.viewer, self.open_run, self.steps = viewer, open_run, steps
        self.seen = self.shown = checkpoint.newest(workdir)

    def _read(self) -> None:
        newest = checkpoint.newest(self.workdir)
        if newest is not None and newest != self.seen:
            self.seen = newest  # whatever comes of it: one that cannot be read is not tried again
            self.viewer.update(self.open_run())
            self.shown = newest
        line, step = summary(metrics.read(self.workdir / "metrics.jsonl"))
        shown = "" if self.shown is None else f"shown: step {self.shown}; "
        self.viewer.tell(f"{shown}{line}", step / max(self.steps, 1))

    def _tell(self, line: str) -> None:
        self.viewer.tell(line)


def summary(lines: list[dict]) -> tuple[str, int]:
    """(the newest step with the newest PSNRs and throughput, that step), of the lines of a metrics.jsonl."""
    numbers: dict[str, float] = {}
    for line in lines:
        numbers |= {k: v for k, v in line.items() if v is not None and ("psnr" in k or k == "rays_per_second")}
    step = lines[-1]["step"] if lines else 0
    return "  ".join([f"step {step}", *(f"{name} {value:.4g}" for name, value in numbers.items())]), step
