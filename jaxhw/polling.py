"""A workdir that a run may still be writing into, read now and then for a page that shows it."""

import time
from abc import ABC, abstractmethod
from pathlib import Path

from jaxhw.errors import UserError, one_line, warn

EVERY = 3.0  # seconds between two looks


class Poller(ABC):
    """Reads a workdir for news.

    A subclass says what it reads, and how its page tells that it could not.
    """

    def __init__(self, workdir: Path):
        self.workdir, self.looked = workdir, -EVERY

    def look(self) -> None:
        """Reads the workdir, if it is time to. What cannot be read is told, and what was read stays on show."""
        if time.perf_counter() - self.looked < EVERY:
            return
        self.looked = time.perf_counter()
        try:
            if not self.workdir.is_dir():
                raise UserError(f"{self.workdir} is not there any more; what was read of it is still shown")
            self._read()
        except (UserError, OSError) as error:
            line = one_line(str(error))
            warn(line)
            self._tell(line)

    @abstractmethod
    def _read(self) -> None:
        """Shows what is new in the workdir, which is there."""

    @abstractmethod
    def _tell(self, line: str) -> None:
        """Puts on the page what cannot be read."""
