"""Who looks on while a run trains: progress for the terminal, a sweep that ends bad trials, a viewer."""

import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

from jaxhw import streams
from jaxhw.state import Variables
from jaxhw.task import Task


class Observer:
    """Base of observers; the methods here do nothing. What an observer raises ends the run.

    The training step gives its buffers away to the next one, so nobody may hold a run's variables. Between two steps
    ``snapshot()`` copies them, on the device: every observer that wants them asks there and then, and keeps the copy.
    """

    def after_step(self, step: int, snapshot: Callable[[], Variables]) -> None:
        """After ``step`` steps; the last one may still be computed when this is called."""

    def after_log(self, step: int, numbers: Mapping[str, float]) -> None:
        """After the averages of a log have been written."""

    def after_evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        """After the numbers of an evaluation have been written."""

    def close(self) -> None:
        """When the run ends, however it does."""


class Progress(Observer):
    """A bar that counts examples, so that its rate is the throughput; into a log file it writes twice a minute.

    Args:
      done: the steps that the run resumes at.
      began: when the command did, on ``time.perf_counter``'s clock.
    """

    def __init__(self, task: Task, batch_size: int, done: int, began: float):
        self.task, self.batch_size, self.began, self.started = task, batch_size, began, False
        counts = {"total": task.steps * batch_size, "initial": done * batch_size, "unit": f" {task.unit}"}
        if streams.is_terminal():
            self.bar = tqdm(**counts, unit_scale=True, mininterval=0.5, dynamic_ncols=True)
        else:
            self.bar = streams.Meter(**counts)

    def after_step(self, step: int, snapshot: Callable[[], Variables]) -> None:
        if not self.started:
            self.started = True
            self.bar.unpause()  # the time left does not count the compilation
            tqdm.write(f"first step after {time.perf_counter() - self.began:.1f} s")
        self.bar.update(self.batch_size)

    def after_log(self, step: int, numbers: Mapping[str, float]) -> None:
        self.bar.set_postfix(loss=f"{numbers['loss']:.3f}", refresh=False)

    def after_evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        shown = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        tqdm.write(f"step {step}  epoch {step / self.task.steps_per_epoch:.1f}  {shown}")

    def close(self) -> None:
        self.bar.close()
