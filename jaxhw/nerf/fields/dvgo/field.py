"""Direct voxel grid optimisation (Sun, Sun and Chen, CVPR 2022; DVGO v2: arXiv 2206.05085): a radiance field in grids.

A coarse grid with plain colours finds where something is; a fine one in its box, with features and a shallow network
for the colour, starts small and grows (progressive growing). `stages.py` has these transitions, `loss.py` and
`render.py` what happens between and after them, `grid.py` what a grid is.

Where free space is known, no voxel is stored and no sample computed, and samples of small opacity or weight have no
colour: all of it in buckets of static size (`march.py`).

Unbounded scenes are those of DVGO v2, contracted into a cube, but with a coarse stage, as bounded ones. v2 learns what
is free while it learns the rest, in 40,000 steps with samples everywhere, for which the buckets would have to be large
all through the run. v2 also raises its threshold on opacity at step 6,500 (5e-6 to 1e-4), so that the samples of an
empty grid stay above it at first; here the fine grid starts with what the coarse one found.
"""

import dataclasses
import operator
from typing import Any, Self

import jax
import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Rays
from jaxhw.nerf.fields.dvgo import automatic, grid, loss, render, stages
from jaxhw.nerf.fields.dvgo.grid import CoarseState
from jaxhw.nerf.fields.dvgo.options import Options, in_steps
from jaxhw.nerf.fields.field import Field, Setting, Target
from jaxhw.nerf.fields.near import near as near_of
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.state import Variables
from jaxhw.task import Context

PyTree = Any

MOST_LEFT_OUT = 0.1  # share of rays without a place in a step, or that meet nothing, above which a run is told
LIMITS = ("{stage}.blocks", "{stage}.samples", "{stage}.shaded", "longest")  # that `FineState.left_out` counts for


@dataclasses.dataclass(frozen=True)
class DVGO(Field):
    """The field.

    Attributes:
      options: with a shell of 0 where the scene is bounded, and stages in steps.
      setting: with the `near` of the options where they have one.
      notes: lines on what was taken from the scene.
    """

    options: Options
    setting: Setting
    notes: tuple[str, ...] = ()

    Options = Options
    metric_names = ("loss", "psnr", "overflow", "samples", "shaded")
    chunk = 65536
    moves_samples = True

    @classmethod
    def create(cls, options: Options, setting: Setting) -> Self:
        options = dataclasses.replace(options, shell=options.shell * setting.unbounded)
        near, notes = near_of(setting, options.near)
        setting = dataclasses.replace(setting, near=near)
        if setting.near >= setting.far:
            raise UserError(
                f"config.model.near={options.near:g} times the cameras' distance is {setting.near:g}: it must be less "
                f"than {setting.far:g}, where the scene ends"
            )
        return cls(in_steps(options, setting.steps), setting, notes)

    @property
    def stages(self) -> tuple[int, ...]:
        return tuple(step for step, _ in stages.plan(self.options, self.setting.steps))

    @property
    def indivisible(self) -> str:
        penalised = any(self.options.total_variation)
        return "config.model.total_variation is weighed against a whole batch" if penalised else ""

    def start(self, rng: jax.Array) -> Variables:
        return stages.start(self.options, self.setting, rng)

    def from_saved(self, saved: Variables) -> Variables:
        return grid.from_saved(saved)

    def grow(self, variables: Variables, stage: int, rng: jax.Array) -> Variables:
        _, event = stages.plan(self.options, self.setting.steps)[stage - 1]
        return stages.grow(self.options, variables, event, rng)

    def loss(
        self, params: PyTree, state: PyTree, rays: Rays, target: Target, context: Context
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        return loss.loss(self.options, self.setting, Variables(params, state), rays, target, context)

    @property
    def rendered_near(self) -> float:
        return self.setting.near

    def render(self, variables: Variables, rays: Rays, background: jax.Array) -> Rendered:
        grids = grid.Grid.of(self.options, variables)
        return render.render(grids, self.setting.near, self.setting.far, rays, background)

    def radiance(self, variables: Variables, points: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array]:
        return grid.Grid.of(self.options, variables).radiance(points, directions)

    def warning(self, state: PyTree) -> str:
        coarse = isinstance(state, CoarseState)
        return "; ".join(filter(None, (self._left_out(state, coarse), self._unmet(state, coarse))))

    def _left_out(self, state: PyTree, coarse: bool) -> str:
        worst = int(np.argmax(state.left_out))
        if state.left_out[worst] <= MOST_LEFT_OUT:
            return ""
        name = LIMITS[worst].format(stage="coarse" if coarse else "fine")
        value = operator.attrgetter(name)(self._with_buckets(state, coarse))
        return (
            f"{state.left_out[worst]:.0%} of the rays have no place in a step and are left out: raise "
            f"config.model.{name}={value:g}"
        )

    def _with_buckets(self, state: PyTree, coarse: bool) -> Options:
        """The options with the sizes that the buckets of a stage have in a state."""
        name, shape = "coarse" if coarse else "fine", state.mask.shape
        stage = getattr(self.options, name)
        count = grid.place(self.options.shell, stage.stride, state.box, shape).count
        live = None if coarse else float((np.asarray(state.rows) >= 0).mean())
        return dataclasses.replace(self.options, **{name: automatic.with_buckets(stage, count, live)})

    def _unmet(self, state: PyTree, coarse: bool) -> str:
        if state.unmet <= MOST_LEFT_OUT:
            return ""
        told = f"{state.unmet:.0%} of the rays show something where nothing can be learnt: "
        unseen = (
            f"it is seen by fewer than config.model.least_cameras={self.options.least_cameras}, or nearer than "
            f"{self.setting.near:.3g} to a camera (config.model.near)"
        )
        if coarse:
            return told + unseen
        return f"{told}the coarse stage took it for free space (lengthen config.model.coarse_steps), or {unseen}"
