"""How far a run has come, for the terminal, and how long the rest will take."""

import time
from collections.abc import Callable, Mapping, Sequence

from tqdm import tqdm

from jaxhw import streams
from jaxhw.durations import duration
from jaxhw.observer import Observer
from jaxhw.state import Variables
from jaxhw.task import Task


class Forecast:
    """How long the training that is left will take, by the speed of the first steps, of the run and of each stage.

    Attributes:
      steps: of the run.
      stages: see `Task.stages`; a step's shapes, and so its time, change there.
    """

    MEASURED = 20  # steps, and at least so many seconds of them
    SECONDS = 3.0
    CHANGED = 1.25  # a new stage is told of where its steps take so many times more, or less, than the last told

    def __init__(self, steps: int, stages: Sequence[int]):
        self.steps, self.stages = steps, set(stages)
        self.measuring, self.since, self.told = True, None, None

    def after_step(self, step: int, now: float) -> str:
        """A line for the user, or an empty string; `now` is in seconds."""
        if step - 1 in self.stages:
            self.measuring, self.since = True, None
        if not self.measuring:
            return ""
        if self.since is None:  # the step that compiles does not count
            self.since = step, now
            return ""
        count, seconds = step - self.since[0], now - self.since[1]
        if count < self.MEASURED or seconds < self.SECONDS:
            return ""
        self.measuring, pace = False, seconds / count
        if self.told and 1 / self.CHANGED < pace / self.told < self.CHANGED:
            return ""
        self.told = pace
        left = duration((self.steps - step) * pace)
        return f"step {step} of {self.steps}: {1 / pace:.3g} steps a second, {left} left" + (
            " at this stage's speed" if any(stage > step for stage in self.stages) else ""
        )

    def pause(self) -> None:
        """Something else than training took time: what is being measured begins anew."""
        self.since = None


class Progress(Observer):
    """A bar that counts examples, so that its rate is the throughput; into a log file it writes twice a minute.

    Args:
      done: the steps that the run resumes at.
      began: when the command did, on ``time.perf_counter``'s clock.
    """

    def __init__(self, task: Task, batch_size: int, done: int, began: float):
        self.task, self.batch_size, self.began, self.started = task, batch_size, began, False
        self.forecast = Forecast(task.steps, task.stages)
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
        if told := self.forecast.after_step(step, time.perf_counter()):
            tqdm.write(told)

    def after_log(self, step: int, numbers: Mapping[str, float]) -> None:
        self.bar.set_postfix(loss=f"{numbers['loss']:.3f}", refresh=False)

    def after_evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        shown = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        self.forecast.pause()
        tqdm.write(f"step {step}  epoch {step / self.task.steps_per_epoch:.1f}  {shown}")

    def close(self) -> None:
        self.bar.close()
