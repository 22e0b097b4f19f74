"""Makes the next batches while the device works on this one."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Prefetcher:
    """Iterates over ``make(step)`` for ``step`` in ``range(start, stop)``, in order, ``depth`` ahead on a thread.

    An exception in ``make`` is raised where the batch would have come. Use it as a context manager: leaving it
    ends the thread.
    """

    def __init__(self, make: Callable[[int], Any], start: int, stop: int, depth: int = 2):
        self._queue: queue.Queue = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(make, start, stop), daemon=True, name="prefetch")
        self._thread.start()

    def __iter__(self) -> Iterator[Any]:
        while True:
            kind, value = self._queue.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread; what it had made is dropped."""
        self._closed.set()
        while self._thread.is_alive():
            self._drain()
            self._thread.join(0.05)

    def _work(self, make: Callable[[int], Any], start: int, stop: int) -> None:
        try:
            for step in range(start, stop):
                if self._closed.is_set():
                    return
                self._queue.put(("batch", make(step)))
            self._queue.put(("end", None))
        except BaseException as error:  # whatever it is, the consumer must not wait for ever
            self._queue.put(("error", error))

    def _drain(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
