"""What options of 0 stand for: where rays begin, and how large the buckets are."""

import dataclasses

from jaxhw.nerf.fields.dvgo.options import Options, StageOptions
from jaxhw.nerf.fields.dvgo.space import BLOCK
from jaxhw.nerf.fields.field import Setting

NEAR = 0.35  # of the cameras' distance from their subject: where rays begin, if nothing says that content is nearer
# Buckets of the fine stage. Rays pass through the middle of a scene, where there is more than elsewhere: the share of
# their samples that is not in free space is 2.3 to 3.6 times that of the voxels (measured). At most MOST are taken.
CROWDED, MOST = 3.5, 0.4
# They are scattered over more blocks than they would fill, with a few half empty ones at the ends; a part is HEAVY.
SCATTERED, ENDS, HEAVY = 1.5, 6.0, 0.56


def near(options: Options, setting: Setting) -> tuple[float, tuple[str, ...]]:
    """(where rays begin, a line for the user where that was chosen here).

    Points can only bring it nearer. They would often take it farther, but no voxel within `near` of a camera is learnt,
    and what is so close to one camera, beside or behind it, is the background of others.
    """
    if options.near or setting.near_from == "format":
        return options.near * setting.distance or setting.near, ()
    usual = NEAR * setting.distance
    if setting.near_from == "points" and setting.near < usual:
        return setting.near, (f"rays begin at {setting.near:.3g}, by the nearest of {len(setting.points):,} points",)
    return usual, (f"rays begin at {usual:.3g}, {NEAR:g} times the cameras' distance from their subject",)


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
