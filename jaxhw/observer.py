"""Who looks on while a run trains: progress for the terminal, a sweep that ends bad trials, a viewer."""

from collections.abc import Callable, Mapping

from jaxhw.state import Variables


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
