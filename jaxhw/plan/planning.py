"""A run on a slice: whether it fits, how long it takes at best, and why."""

import sys
import time
from dataclasses import dataclass

from ml_collections import ConfigDict

from jaxhw import config as configs
from jaxhw.errors import UserError
from jaxhw.plan import batch, hlo, program, traffic
from jaxhw.plan.compiling import Cache, Compiled, compile_for
from jaxhw.plan.counts import Counts, count
from jaxhw.plan.program import Lowered
from jaxhw.plan.roofline import Roofline
from jaxhw.plan.topology import Slice


@dataclass(frozen=True)
class Plan:
    """What is known of a program on a slice.

    Attributes:
      batch: images or rays (`unit`) that a call is for.
      memory: bytes that it needs on a chip.
      stages: of the run; what is planned is the first.
      calls: how often a run calls it; 0 if that is not known.
      counts, roofline: of a call; None where the program does not fit.
    """

    slice: Slice
    batch: int
    unit: str
    memory: float
    stages: int
    calls: int
    counts: Counts | None = None
    roofline: Roofline | None = None

    @property
    def fits(self) -> bool:
        return self.counts is not None


@dataclass
class Planner:
    """Plans one program of a run on any slices.

    Attributes:
      config: whose data are there.
      name: the program's.
    """

    config: ConfigDict
    name: str
    cache: Cache

    def plan(self, slice: Slice, size: int = 0) -> Plan:
        """With a batch of ``size``, or the config's.

        Raises:
          UserError: the slice does not divide the batch, or the task refuses the config.
        """
        config = with_batch(self.config, size) if size else self.config
        lowered = program.lower(config, slice.mesh, self.name)
        compiled = self._compiled(lowered, slice, config.batch_size)
        about = (slice, lowered.examples, lowered.unit, compiled.memory, lowered.stages, lowered.calls)
        if not compiled.hlo:
            return Plan(*about)
        counts = count(lowered.operations, traffic.moves(hlo.parse(compiled.hlo)), slice.chips)
        return Plan(*about, counts, Roofline.of(counts, slice.chip))

    def largest(self, slice: Slice) -> Plan:
        """With the largest batch that fits, but no more than an epoch has.

        Raises:
          UserError: none fits.
        """
        plans: dict[int, Plan] = {}

        def room(size: int) -> float:
            plans[size] = plan = self.plan(slice, size)
            share = slice.chip.hbm / plan.memory
            return max(share, 1.0) if plan.fits else min(share, 0.99)

        unit = slice.chips * self.config.accumulate
        most = program.examples_per_epoch(with_batch(self.config, unit), slice.mesh)
        found = batch.largest(room, self.config.batch_size, unit, most)
        if not found:
            raise UserError(f"no batch fits on {slice.name}: one example a chip is too many, or an epoch has too few")
        return plans[found]

    def _compiled(self, lowered: Lowered, slice: Slice, size: int) -> Compiled:
        """From the cache, or compiled into it, with a line at either end."""
        path = self.cache.path(lowered.lowered, slice.name)
        if found := self.cache.read(path):
            return found
        began = time.perf_counter()
        _say(f"compiling {self.name} for {slice.name}, batch {size} ...")
        compiled = compile_for(lowered.lowered)
        _say(f"... {time.perf_counter() - began:.0f} s{'' if compiled.hlo else ': it does not fit'}")
        self.cache.write(path, compiled)
        return compiled


def with_batch(config: ConfigDict, size: int) -> ConfigDict:
    """The config with another batch, and a larger one's warm-up in proportion.

    Nothing that is planned depends on the warm-up, which may be longer than the run in so few steps.
    """
    warmup = config.optim.get("warmup_steps", 0)
    shorter = {"optim.warmup_steps": warmup * config.batch_size // size} if size > config.batch_size and warmup else {}
    return configs.changed(config, {"batch_size": size} | shorter)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
