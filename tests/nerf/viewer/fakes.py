"""What stands for a browser, a run and a clock where only the logic of the viewer is looked at."""

import types

import numpy as np

from jaxhw.nerf.rendering.volume import Rendered


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Draw:
    """Renders the number of the source, and takes `seconds` of a clock for each chunk."""

    def __init__(self, clock: Clock, seconds: float = 0.02):
        self.clock, self.seconds, self.calls = clock, seconds, []

    def __call__(self, source, box, camera, first, count) -> Rendered:
        self.calls.append((camera.width, camera.height, first))
        self.clock.now += self.seconds
        value = np.full(count, source, np.float32)
        return Rendered(np.repeat(value[:, None], 3, 1), value, np.ones(count, np.float32))


class Gallery:
    """What a view was given: its pictures and what went wrong."""

    def __init__(self):
        self.pictures, self.errors = [], []

    @property
    def sizes(self):
        return [(picture.camera.width, picture.camera.height) for picture in self.pictures]


def namespace(**values):
    return types.SimpleNamespace(**values)
