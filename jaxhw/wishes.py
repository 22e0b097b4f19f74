"""What the processes of a run wish while it trains, to save or to stop, made known to all of them."""

from collections import deque

import jax
from jax.sharding import Mesh

from jaxhw import mesh as meshes
from jaxhw.maintenance import Notice
from jaxhw.process import StopRequest

NOTHING, SAVE, STOP = range(3)  # of all processes' wishes the greatest is granted
AHEAD = 2  # steps by which the host may run ahead of the devices, not by the whole epoch


class Wishes:
    """Hands each process's wish on with its steps; none waits for it, and all know it `AHEAD` steps later."""

    def __init__(self, stop: StopRequest, notice: Notice, mesh: Mesh):
        self._stop, self._notice, self._greatest = stop, notice, meshes.make_greatest(mesh)
        self._running: deque[tuple[jax.Array, jax.Array | int]] = deque()

    def granted(self, loss: jax.Array) -> int:
        """Which of the three it is now, the same in all processes; to be called after each step with its loss []."""
        self._running.append((loss, self._greatest(self._own())))
        if len(self._running) <= AHEAD:
            return NOTHING
        past, wish = self._running.popleft()
        past.block_until_ready()
        return int(wish)

    def _own(self) -> int:
        if self._stop.asked:
            return STOP
        return SAVE if self._notice.taken() else NOTHING
