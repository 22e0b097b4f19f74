"""Waiting for what happens in another thread or process, on a machine that others use as well."""

import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], seconds: float = 400.0, every: float = 0.05) -> Any:
    """The first true value of a function that is called until it has one, with so many seconds between two calls."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError("it does not come about")
        time.sleep(every)
    return value
