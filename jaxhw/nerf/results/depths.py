"""Depth of a run's pictures as files: 16-bit PNGs with their scale in a JSON, and the exact numbers as .npz."""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxhw import files, streams
from jaxhw.nerf.cameras.alignment import scale_of
from jaxhw.nerf.cameras.cameras import image_rays
from jaxhw.nerf.results.depth_maps import SOLID
from jaxhw.nerf.results.names import file_names
from jaxhw.nerf.results.run import Run, setting

LARGEST = 65535
FARTHEST = 10.0  # over the cameras' distance from their subject: what is farther is written as so far


def write(out: Path, run: Run) -> list[Path]:
    """Writes DIR/depth.json, and DIR/NAME.png and NAME.npz for each picture of the scene.

    Depth is along the optical axis, as COLMAP, Open3D and nerfstudio have it, in units of the capture's frame: a PNG's
    value times `scale`, 0 where a ray ends at no surface. The .npz holds `depth` and `opacity`, both [h, w] float32.

    Returns:
      The PNGs.
    """
    files.make_folder(out, "--out")
    unit = scale_of(run.scene.to_capture)
    scale = FARTHEST * setting(run.scene).distance * unit / LARGEST
    written = [out / name for name in file_names(run.scene.names)]
    # Their scale comes first: an export that is interrupted leaves no PNG that means nothing.
    pictures = {path.name: name for path, name in zip(written, run.scene.names, strict=True)}
    files.write_json(out / "depth.json", {"scale": scale, "along": "optical axis", "pictures": pictures})
    for i in streams.bar(range(len(written)), "depth", len(written), "picture"):
        depth, opacity = _picture(run, i)
        with files.complete(written[i].with_suffix(".npz")) as partial:
            np.savez_compressed(partial, depth=unit * depth, opacity=opacity)
        with files.complete(written[i]) as partial:
            steps = np.round(np.clip(unit * depth / scale, 0, LARGEST)).astype(np.uint16)
            Image.fromarray(steps).save(partial)
    return written


def _picture(run: Run, i: int) -> tuple[np.ndarray, np.ndarray]:
    """(depth along the optical axis of camera i, opacity), both [h, w] float32, in the scene's unit."""
    camera = run.cameras[i]
    rendered = run.render(camera)
    cosine = np.asarray(image_rays(camera).directions) @ camera.pose[:, 2]
    depth = np.where(rendered.opacity > SOLID, rendered.depth * cosine.reshape(rendered.depth.shape), 0)
    return depth.astype(np.float32), rendered.opacity.astype(np.float32)
