"""What sizes of buckets of 0 stand for."""

import dataclasses

from jaxhw.nerf.fields.dvgo.options import StageOptions
from jaxhw.nerf.fields.dvgo.space import BLOCK

# Buckets of the fine stage. Rays pass through the middle of a scene, where there is more than elsewhere: the share of
# their samples that is not in free space is 2.3 to 3.6 times that of the voxels (measured). At most MOST are taken.
CROWDED, MOST = 3.5, 0.4
# They are scattered over more blocks than they would fill, with a few half empty ones at the ends; a part is HEAVY.
SCATTERED, ENDS, HEAVY = 1.5, 6.0, 0.56


def with_buckets(stage: StageOptions, count: int, live: float | None) -> StageOptions:
    """The options of a stage, with the sizes of those buckets that are left to it.

    Args:
      count: samples along a ray.
      live: share of the voxels that are not known to be free space; None in the coarse stage, which keeps all samples.
    """
    samples = stage.samples or count * (1 if live is None else min(CROWDED * live, MOST))
    blocks = stage.blocks or min(SCATTERED * samples / BLOCK + ENDS, count / BLOCK)
    shaded = stage.shaded or samples * (1 if live is None else HEAVY)
    return dataclasses.replace(stage, blocks=float(blocks), samples=float(samples), shaded=float(shaded))
