"""A viewer that looks on while a run trains, within its share of the time and without touching the run's numbers.

It renders in the training thread, between two steps: nothing computes beside a step. What it renders is a copy of the
variables, renewed every few seconds; while no browser is connected it does nothing at all.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ml_collections import ConfigDict
from tqdm import tqdm

from jaxhw.errors import one_line, warn
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.viewer.budget import Budget
from jaxhw.nerf.viewer.viewer import Viewer
from jaxhw.observer import Observer
from jaxhw.process import stop_asked
from jaxhw.serving import Address
from jaxhw.state import Variables

RENEWED = 2.0  # seconds between two copies of the variables, at least
TOLD = 0.5  # seconds between two counts of the steps
IDLE = 0.05  # seconds between two looks for something to render while training pauses


def watching(run_of: Callable[[Variables], Run], config: ConfigDict, workdir: Path, steps: int) -> "Watching":
    """The observer that a run's config asks for; says where its page is when the first step is done."""

    def open_viewer(run: Run) -> Viewer:
        address = Address(port=config.viewer_port)
        viewer = Viewer(run, workdir, address, "--config.viewer_port")
        tqdm.write(address.lines())
        return viewer

    return Watching(open_viewer, run_of, config.viewer_share, steps)


class Watching(Observer):
    """Lets browsers watch a run.

    Args:
      open_viewer: makes the viewer of the run as it is after the first step.
      run_of: the run with a snapshot of the variables.
      share: of the time that rendering may take.
      steps: the length of the run.
    """

    def __init__(
        self, open_viewer: Callable[[Run], Viewer], run_of: Callable[[Variables], Run], share: float, steps: int
    ):
        self.open_viewer, self.run_of, self.steps = open_viewer, run_of, steps
        self.viewer: Viewer | None = None
        self.budget = Budget(share)
        self.copied = self.told = -math.inf
        self.numbers: dict[str, float] = {}
        self.paused = False

    def after_step(self, step: int, snapshot: Callable[[], Variables]) -> None:
        if self.viewer is None:
            self._open(snapshot)
        if not self.viewer.watched:
            return
        try:
            self._look(step, snapshot)
        except Exception as error:  # such as no memory for the copy: training goes on without the picture
            warn(f"the viewer shows nothing of step {step}: {one_line(str(error) or type(error).__name__)}")

    def _open(self, snapshot: Callable[[], Variables]) -> None:
        self.viewer = self.open_viewer(self.run_of(snapshot()))
        self.pause = self.viewer.server.gui.add_button("pause training")
        self.pause.on_click(lambda _: self._set_paused(not self.paused))

    def _set_paused(self, paused: bool) -> None:
        self.paused, self.pause.label = paused, "go on training" if paused else "pause training"

    def _look(self, step: int, snapshot: Callable[[], Variables]) -> None:
        self._tell(step)
        if self.budget.has_some() and time.perf_counter() - self.copied > RENEWED:
            with self.budget.spending():
                self._renew(snapshot)
        rendering = True
        while rendering and self.budget.has_some():
            with self.budget.spending():
                rendering = self.viewer.advance()
        if self.paused:
            self._renew(snapshot)
            self._rest()

    def _renew(self, snapshot: Callable[[], Variables]) -> None:
        self.viewer.update(self.run_of(snapshot()))
        self.copied = time.perf_counter()

    def _rest(self) -> None:
        """Renders all the time until training goes on: asked to, or stopped, or left by whoever could ask."""
        while self.paused and self.viewer.watched and not stop_asked():
            if not self.viewer.advance():
                self.viewer.wait(IDLE)
        if self.paused:
            self._set_paused(False)

    def _tell(self, step: int) -> None:
        now = time.perf_counter()
        if now - self.told < TOLD:
            return
        self.told = now
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in self.numbers.items())
        self.viewer.tell(f"step {step} of {self.steps}  {numbers}", step / self.steps)

    def after_log(self, step: int, numbers: Mapping[str, float]) -> None:
        self.numbers |= {name: numbers[name] for name in ("psnr", "rays_per_second") if name in numbers}

    def after_evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        self.numbers |= {name: value for name, value in numbers.items() if "psnr" in name}

    def close(self) -> None:
        if self.viewer:
            self.viewer.close("the training has ended; its terminal says how. jaxhw view shows the run from now on")
