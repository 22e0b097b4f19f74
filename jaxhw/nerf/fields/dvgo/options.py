"""What `config.model` may set of DVGO, stage by stage, with the paper's values."""

import dataclasses
import itertools
import math

from jaxhw.errors import UserError
from jaxhw.options import STEPS, above, at_least, below, between, each, option


@dataclasses.dataclass(frozen=True)
class StageOptions:
    """What differs between the coarse and the fine grid; the defaults are the fine one's."""

    voxels: int = option(160**3, "of the grid, at its final size", at_least(1))
    stride: float = option(0.5, "voxels between samples", above(0))
    alpha: float = option(1e-2, "opacity of a voxel-long sample at the start", above(0), below(1))
    threshold: float = option(
        1e-4, "samples of a smaller opacity, and then of a smaller weight, are dropped", at_least(0)
    )
    entropy: float = option(0.001, "weight of the background entropy loss", at_least(0))
    per_point: float = option(0.01, "weight of the per-point colour loss", at_least(0))
    # Sizes of the buckets, as averages per ray; a ray that finds no place is left out of the step (the overflow).
    # 0: by the share of the voxels that are not known to be free space (`automatic.py`).
    blocks: float = option(16.0, "blocks of 8 samples that lie near something", at_least(0))
    samples: float = option(48.0, "samples in what is not known to be free space", at_least(0))
    shaded: float = option(24.0, "samples that get a colour", at_least(0))


COARSE = StageOptions(
    voxels=100**3, stride=0.5, alpha=1e-6, threshold=1e-7, entropy=0.01, per_point=0.1, blocks=24.0, samples=150.0,
    shaded=150.0,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """What `config.model` may set of the whole field."""

    coarse: StageOptions = option(COARSE, "the grid that finds where something is")
    fine: StageOptions = option(StageOptions(), "the grid that is looked at in the end")
    coverage: float = option(0.0, "share of the cameras that must see what the coarse box holds; 0: any", between(0, 1))
    inner: float = option(1.0, "half edge of an unbounded scene's cube over the cameras' farthest coordinate", above(0))
    least_cameras: int = option(3, "that must see a voxel for it to be learnt", at_least(1))
    near: float = option(
        0.0, "where rays begin, over the cameras' median distance from their subject; 0: as the scene's format has it, "
        "else by its points, but at most 0.35", at_least(0),
    )  # fmt: skip
    coarse_steps: float = option(0.2, "the coarse stage's; 0: none, which only unbounded scenes can do without", STEPS)
    grow_at: tuple[float, ...] = option(
        (0.04, 0.08, 0.12, 0.16), "after the coarse stage, where the number of voxels doubles", each(STEPS, least=0)
    )
    decay: float = option(1.0, "what the density's shift loses where the voxels double", at_least(0))
    tighten_every: float = option(0.04, "between updates of the known free space; 0: none", STEPS)
    inherit: bool = option(False, "whether the fine grid starts with the coarse one's density (DVGO: its free space)")
    min_opacity: float = option(1e-3, "of voxels that count as occupied by the coarse grid", above(0), below(1))
    channels: int = option(12, "of the fine grid's features", at_least(1))
    widths: tuple[int, ...] = option((128, 128), "of the colour network's hidden layers", each(at_least(1)))
    longest: int = option(192, "samples that a ray keeps for compositing", at_least(1))
    total_variation: tuple[float, float] = option(
        (0.0, 0.0), "weights of that loss for density and features, in the first half of the run", each(at_least(0), 2)
    )
    distortion: float = option(0.0, "weight of the distortion loss", at_least(0))
    shell: float = option(0.2, "thickness of what lies outside of an unbounded scene's cube, in its radii", at_least(0))


def in_steps(options: Options, steps: float) -> Options:
    """The options for a run of `steps` steps: shares of the run have become whole numbers of steps.

    Stages that a short run would round to the same step come one step after another.

    Raises:
      UserError: the stages do not fit into the run; `options.shell` is 0 for bounded scenes.
    """
    if not (options.coarse_steps or options.shell):
        raise UserError(
            "config.model.coarse_steps=0 is for unbounded scenes: this one has bounds, so set it to a share of the run"
        )
    if math.isinf(steps):  # the run is over, and only looked at
        return options
    count = lambda value: max(round(value * steps), 1) if 0 < value < 1 else int(value)
    later = lambda last, share: max(count(share), last + 1) if share < 1 else int(share)
    coarse = count(options.coarse_steps)
    grow_at = tuple(itertools.accumulate(options.grow_at, later, initial=0))[1:]
    ends = [coarse + step for step in (0, *grow_at)]
    if ends != sorted(set(ends)) or ends[-1] >= steps:
        raise UserError(
            f"the stages of config.model begin at steps {', '.join(map(str, ends))}, which must ascend and be less "
            f"than the run's {steps}: change coarse_steps and grow_at, best to shares of the run, or config.steps"
        )
    every = count(options.tighten_every)
    return dataclasses.replace(options, coarse_steps=coarse, grow_at=grow_at, tighten_every=every)
