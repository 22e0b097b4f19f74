"""What `config.model` may set of DVGO, stage by stage, with the paper's values."""

import dataclasses
import math

from jaxhw.errors import UserError
from jaxhw.options import above, at_least, below, between, each, option


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
    blocks: float = option(16.0, "blocks of 8 samples that lie near something", above(0))
    samples: float = option(48.0, "samples in what is not known to be free space", above(0))
    shaded: float = option(24.0, "samples that get a colour", above(0))


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
    near: float = option(0.0, "where rays begin, in the scene's units; 0: as the scene has it", at_least(0))
    coarse_steps: int = option(
        5000, "of the coarse stage; 0: none, which only unbounded scenes can do without", at_least(0)
    )
    grow_at: tuple[int, ...] = option((1000, 2000, 3000, 4000), "fine steps at which the number of voxels doubles")
    decay: float = option(1.0, "what the density's shift loses where the voxels double", at_least(0))
    tighten_every: int = option(1000, "steps between updates of the known free space; 0: none", at_least(0))
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


def check_stages(options: Options, steps: float) -> None:
    """Raises a UserError unless the stages fit into the run; `options.shell` is 0 for bounded scenes."""
    if not (options.coarse_steps or options.shell):
        raise UserError(
            "config.model.coarse_steps=0 is for unbounded scenes: this one has bounds, so set it to 1 or more"
        )
    ends = [options.coarse_steps + step for step in (0, *options.grow_at)]
    if ends != sorted(set(ends)) or ends[-1] >= steps:
        run = f"the run's {steps} steps" if steps < math.inf else "the run"
        raise UserError(
            f"config.model.coarse_steps={options.coarse_steps} and grow_at={options.grow_at} must ascend and end "
            f"before {run}"
        )
