"""The points that a scene has: those of structure from motion, and a cloud that was exported into the workdir."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.results import cloud_files
from jaxhw.nerf.scenes.scene import Scene

MOST = 300_000  # points of a cloud that a browser is sent
FILES = ("points.npz", "points.ply")  # as `jaxhw export --what=points` writes them, in the capture's frame
MEASURES = ("observers", "spread")  # what such a cloud may know of each point, shown in colour

Cloud = tuple[np.ndarray, np.ndarray]  # points float32 [k, 3], colours uint8 [k, 3]


def add(server: Any, scene: Scene, workdir: Path, size: float) -> dict[str, Any]:
    """Puts the clouds that there are into the page, hidden; name -> viser's handle.

    Args:
      size: of the scene, see `frusta.extent`.

    Raises:
      UserError: the exported file is damaged.
    """
    found: dict[str, Cloud] = {}
    if len(scene.points):
        found["sparse points"] = (scene.points, np.full((len(scene.points), 3), 90, np.uint8))
    if path := next((there for name in FILES if (there := workdir / name).is_file()), None):
        found |= exported(path, scene.to_capture)
    return {
        name: server.scene.add_point_cloud(
            f"/{name}",
            points=points,
            colors=colours,
            point_size=0.004 * size,
            point_shading="flat",
            precision="float32",
            visible=False,
        )
        for name, (points, colours) in found.items()
    }


def exported(path: Path, to_capture: np.ndarray) -> dict[str, Cloud]:
    """An exported cloud in the scene's frame, thinned to `MOST`: in its colours, and in those of its `MEASURES`.

    Raises:
      UserError: the file holds no such cloud.
    """
    try:
        arrays = cloud_files.read(path)
        every = -(-len(arrays["points"]) // MOST) or 1
        arrays = {name: array[::every] for name, array in arrays.items()}
        back = np.linalg.inv(to_capture)
        points = (arrays["points"] @ back[:3, :3].T + back[:3, 3]).astype(np.float32)
        clouds = {"exported points": (points, arrays["colours"].astype(np.uint8))}
        for name in MEASURES:
            if name in arrays:
                clouds[f"exported points by {name}"] = points, _coloured(arrays[name])
        return clouds
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is no exported point cloud ({error}): export it again") from None


def _coloured(values: np.ndarray) -> np.ndarray:
    """uint8 [k, 3] of numbers [k], few dark and many bright; the outermost 1 % share their colours."""
    low, high = np.percentile(values, (1, 99))
    share = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    return (255 * matplotlib.colormaps["viridis"](share)[:, :3]).astype(np.uint8)
