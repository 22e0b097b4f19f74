"""The sparse points of a capture: where structure from motion has found something. In shapes, k counts them."""

import jax
import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras import sight
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.scenes.formats import colmap_model
from jaxhw.nerf.scenes.frames import Capture

MOST = 20_000  # points that statistics are taken of: more say the same
LEAST = 20  # points in a picture that say how near its nearest content is
NEAREST = 0.01  # share of the points in a picture that may be nearer: those are matched wrongly as often as not
MARGIN = 0.8  # of the distance of the nearest points, since there is content between them


def of(capture: Capture) -> np.ndarray:
    """[k, 3] float64 in the frame of the capture's poses; none where it comes without COLMAP's model.

    Raises:
      UserError: the model's points cannot be read.
    """
    if capture.model is None:
        return np.zeros((0, 3))
    found = colmap_model.points(capture.model)
    found = found[np.isfinite(found).all(1) & (np.abs(found) < 1e15).all(1)]
    to_poses = np.linalg.inv(capture.to_capture)
    return found @ to_poses[:3, :3].T + to_poses[:3, 3]


def thinned(points: np.ndarray) -> np.ndarray:
    """At most `MOST` of points [k, 3], evenly chosen from their order."""
    return points[:: -(-len(points) // MOST) or 1]


def near(cameras: Cameras, points: np.ndarray) -> float | None:
    """Where to begin to look for content: a little before the nearest points that any camera has in its picture.

    Args:
      points: [k, 3] in the cameras' frame.

    Returns:
      A distance, or None where no picture has points enough to tell.
    """
    points = thinned(points)
    look, nearest = jax.jit(sight.sees), []
    for i, cosine in enumerate(sight.widest(cameras) if len(points) else ()):
        inside, distance = (np.asarray(a) for a in look(cameras[i], cosine, points))
        if inside.sum() >= LEAST:
            nearest.append(np.quantile(distance[inside], NEAREST))
    return MARGIN * float(min(nearest)) if nearest and min(nearest) > 0 else None


def read(capture: Capture, required: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """(`of` a capture, a line on points that cannot be read and are done without, unless they are `required`).

    Raises:
      UserError: as `of`, where they are required.
    """
    try:
        return of(capture), ()
    except UserError as error:
        if required:
            raise
        return np.zeros((0, 3)), (f"done without the points of {capture.model}: {error}",)
