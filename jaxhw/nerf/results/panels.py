"""Pictures to look at: depth and errors in colour, and a rendered picture beside its truth."""

import matplotlib
import numpy as np

from jaxhw.nerf.rendering.volume import Rendered

MANY = 16  # observers at which the colours of their number end
WORST = 0.25  # the error, of 1, at which an error map's colours end

Range = tuple[float, float]  # the depths at the ends of the colours


def beside_truth(truth: np.ndarray, rendered: Rendered, depths: Range | None = None) -> np.ndarray:
    """uint8 [h, 4 w, 3], left to right: the truth [h, w, 3], what is rendered, their difference, the depth.

    Args:
      depths: the range of the depth's colours; that of this picture where there is none.
    """
    error = error_picture(rendered.colour, truth)
    depth = depth_picture(rendered, depths or depth_range(rendered))
    return np.concatenate([to_uint8(truth), to_uint8(rendered.colour), error, depth], axis=1)


def on_white(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3]: a picture [h, w, 3], no larger than that, in the middle of white."""
    left, top = (width - picture.shape[1]) // 2, (height - picture.shape[0]) // 2
    out = np.full((height, width, 3), 255, np.uint8)
    out[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return out


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """[..., 3] floats in [0, 1], or uint8 already, to uint8."""
    picture = np.asarray(picture)
    return picture if picture.dtype == np.uint8 else np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def depth_picture(rendered: Rendered, depths: Range) -> np.ndarray:
    """The depth of a picture in colour, near bright and far dark, white where there is nothing: uint8 [h, w, 3].

    Colours go with 1 / depth, so that a far background does not take the whole range.

    Args:
      depths: see `depth_range`.
    """
    near, far = max(depths[0], 1e-3), depths[1]
    closeness = (1 / np.maximum(rendered.depth, near) - 1 / far) / max(1 / near - 1 / far, 1e-9)
    return to_uint8(1 - rendered.opacity[..., None] * (1 - _coloured(closeness, "turbo")))


def observers_picture(rendered: Rendered, observers: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3]: how many training cameras see what a picture shows, dark for none to yellow for `MANY` and more.

    White where there is nothing, as in a depth's picture.

    Args:
      observers: [h, w].
    """
    return to_uint8(1 - rendered.opacity[..., None] * (1 - _coloured(observers / MANY, "viridis")))


def depth_range(rendered: Rendered) -> Range:
    """(near, far) for `depth_picture`: all but the outermost 1 % of the depths where there is something."""
    solid = np.asarray(rendered.depth)[np.asarray(rendered.opacity) > 0.5]
    if not solid.size:
        return 1.0, 2.0
    near, far = np.percentile(solid, [1, 99])
    return float(near), float(max(far, near * 1.001))


def error_picture(picture: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3]: each pixel's mean absolute error, black for none to yellow for `WORST` and more."""
    return to_uint8(_coloured(np.abs(np.asarray(picture) - truth).mean(-1) / WORST, "inferno"))


def _coloured(values: np.ndarray, name: str) -> np.ndarray:
    return matplotlib.colormaps[name](np.clip(values, 0, 1))[..., :3]
