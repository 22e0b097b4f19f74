"""Where rays of a capture begin, if its format does not say."""

from jaxhw.nerf.fields.field import Setting

NEAR = 0.35  # of the cameras' distance from their subject, if nothing says that content is nearer


def near(setting: Setting, chosen: float = 0.0) -> tuple[float, tuple[str, ...]]:
    """(distance at which rays begin, a line for the user where that was chosen here).

    Points can only bring it nearer. They would often take it farther, but nothing within that distance of a camera is
    learnt, and what is so close to one camera, beside or behind it, is the background of others.

    Args:
      chosen: over the cameras' distance from their subject; 0: as the format has it, else by its points, but at most
        `NEAR`.
    """
    if chosen or setting.near_from == "format":
        return chosen * setting.distance or setting.near, ()
    usual = NEAR * setting.distance
    if setting.near_from == "points" and setting.near < usual:
        return setting.near, (f"rays begin at {setting.near:.3g}, by the nearest of {len(setting.points):,} points",)
    return usual, (f"rays begin at {usual:.3g}, {NEAR:g} times the cameras' distance from their subject",)
