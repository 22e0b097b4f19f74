"""What is rendered next, of whose picture: coarse pictures first, so that moving cameras are followed.

A view (one for each browser) gets its picture coarse, then finer, each size rendered anew in chunks of one number of
rays, which one program serves. Between two chunks the loop looks at what is wanted now: a camera that has moved
begins again as soon as its coarsest picture is there, and the coarse picture of one view comes before the fine one of
another. All of it runs in the thread that calls `advance`; other threads only set `View.wanted`.
"""

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.rendering.renderer import as_picture
from jaxhw.nerf.rendering.volume import Rendered

PyTree = Any
CHUNK = 2048  # rays between two looks at what is wanted: 20 to 60 ms on two CPU cores
SECONDS = 0.1  # for the coarsest picture, while the camera moves
REMEMBERED = 16  # chunks whose time is known: a compilation is forgotten, and empty space is quicker than what is full


@dataclasses.dataclass(frozen=True, eq=False)
class Wanted:
    """What a view should show.

    Attributes:
      camera: of one picture (`cameras[i]`) at its finest size.
      box: [2, 3] corners, outside of which nothing is shown.
    """

    camera: Cameras
    box: np.ndarray


@dataclasses.dataclass(frozen=True)
class Picture:
    """What a view is given.

    Attributes:
      wanted: what it answers.
      camera: the same at the size of this picture.
      finest: whether no finer one follows.
    """

    wanted: Wanted
    camera: Cameras
    rendered: Rendered
    finest: bool


class View:
    """One picture that somebody looks at.

    Args:
      show: is given every picture when it is complete.
      fail: is given what went wrong; the view rests until something else is wanted.

    Attributes:
      wanted: None: nothing. Any thread may set it.
    """

    def __init__(self, show: Callable[[Picture], None], fail: Callable[[Exception], None]):
        self.show, self.fail = show, fail
        self.wanted: Wanted | None = None
        self.job: _Job | None = None


@dataclasses.dataclass(eq=False)
class _Job:
    """What is left to do for a view: sizes, coarse to fine, and the chunks of the first of them so far.

    Attributes:
      answered: whether the view has a picture of what it wants, if a coarse or an older one.
    """

    wanted: Wanted
    source: PyTree
    sizes: deque[tuple[int, int]]
    answered: bool = False
    parts: list[Rendered] = dataclasses.field(default_factory=list)
    served: int = 0

    @property
    def owed(self) -> bool:
        """Whether its first picture is begun and comes in any case.

        A camera moves more often than a picture is rendered: one that always began again would never be shown.
        """
        return bool(self.sizes and self.parts) and not self.answered

    @property
    def pixels(self) -> int:
        return math.prod(self.sizes[0])


class RenderLoop:
    """Renders for all views by turns.

    Args:
      draw: (source, box [2, 3], camera, first pixel, number of pixels) -> Rendered of that many pixels; see
        `Renderer.part`.
      source: the variables to render, whatever `draw` takes them to be; `renew` replaces them.
      chunk: rays at a time.
    """

    def __init__(
        self,
        draw: Callable[[PyTree, np.ndarray, Cameras, int, int], Rendered],
        source: PyTree,
        chunk: int = CHUNK,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.draw, self.source, self.chunk, self.clock = draw, source, chunk, clock
        self.views: list[View] = []
        self.turns = 0
        self.seconds: deque[float] = deque(maxlen=REMEMBERED)  # of the last chunks

    @property
    def speed(self) -> float:
        """Rays a second, as measured; one chunk in the time of a coarse picture before anything was."""
        return self.chunk * len(self.seconds) / sum(self.seconds) if self.seconds else self.chunk / SECONDS

    def renew(self, source: PyTree) -> None:
        """Variables that have learnt more: pictures that are complete are rendered again, in their finest size."""
        self.source = source

    def advance(self) -> bool:
        """Renders the chunk that is due first; False if all pictures are complete."""
        due = [view for view in tuple(self.views) if self._has_work(view)]
        if not due:
            return False
        view = min(due, key=lambda view: (view.job.pixels, view.job.served))
        try:
            self._render(view, view.job)
        except Exception as error:  # it belongs on the page: neither training nor other views end with it
            view.job.sizes.clear()
            view.fail(error)
        return True

    def _has_work(self, view: View) -> bool:
        """Whether a view waits for a picture; its job is then one for what it wants now."""
        wanted = view.wanted
        if wanted is None:
            return False
        if view.job is None or (view.job.wanted is not wanted and not view.job.owed):
            view.job = _Job(wanted, self.source, deque(doubling(wanted.camera.size, self.speed * SECONDS)))
        elif not view.job.sizes and view.job.source is not self.source:
            view.job = _Job(wanted, self.source, deque(doubling(wanted.camera.size, math.inf)), answered=True)
        return bool(view.job.sizes)

    def _render(self, view: View, job: _Job) -> None:
        self.turns += 1
        job.served = self.turns
        camera, began = job.wanted.camera.resized(job.sizes[0]), self.clock()
        job.parts.append(self.draw(job.source, job.wanted.box, camera, len(job.parts) * self.chunk, self.chunk))
        self.seconds.append(max(self.clock() - began, 1e-6))
        if len(job.parts) * self.chunk < job.pixels:
            return
        rendered = as_picture(jax.tree.map(lambda *parts: np.concatenate(parts), *job.parts), camera)
        job.sizes.popleft()
        job.parts.clear()
        job.answered = True
        view.show(Picture(job.wanted, camera, rendered, finest=not job.sizes))


def doubling(size: Sequence[int], pixels: float) -> list[tuple[int, int]]:
    """Sizes (width, height) each twice the one before, the first of about `pixels` at most, the last `size`."""
    width, height = (int(side) for side in size)
    halvings = max(0, math.ceil(math.log2(width * height / pixels) / 2)) if math.isfinite(pixels) else 0
    return [(max(1, width >> by), max(1, height >> by)) for by in range(halvings, -1, -1)]
