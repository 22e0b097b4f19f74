"""scene.json: what a run's workdir keeps of its scene, so that it can be rendered where the pictures are not."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxhw import files
from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.scenes.scene import Scene

CAMERA = ("pose", "focal", "centre", "distortion")


def write(scene: Scene, path: Path) -> None:
    """Everything but the pictures."""
    cameras = scene.cameras
    text = {
        "cameras": {
            **{name: np.asarray(getattr(cameras, name)).tolist() for name in CAMERA},
            "width": cameras.width,
            "height": cameras.height,
            "model": cameras.model,
        },
        "names": list(scene.names),
        "split": {name: np.asarray(indices).tolist() for name, indices in scene.split.items()},
        "near": float(scene.near),
        "far": float(scene.far),
        "bounds": None if scene.bounds is None else np.asarray(scene.bounds).tolist(),
        "unbounded": scene.unbounded,
        "to_capture": np.asarray(scene.to_capture).tolist(),
    }
    files.write(path, json.dumps(text) + "\n")


def read(path: Path) -> Scene:
    """The scene without its pictures: `images` is [0, h, w, 3].

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        return _scene(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(f"{path.parent} is no workdir of a NeRF run: it has no {path.name}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}): run the training command again, which writes it anew"
        ) from error


def _scene(values: dict[str, Any]) -> Scene:
    cameras = values.pop("cameras")
    arrays = {name: np.array(cameras.pop(name), np.float32) for name in CAMERA}
    images = np.zeros((0, cameras["height"], cameras["width"], 3), np.uint8)
    values["split"] = {name: np.array(indices, np.int64) for name, indices in values["split"].items()}
    values["bounds"] = None if values["bounds"] is None else np.array(values["bounds"], np.float32)
    values["to_capture"] = np.array(values["to_capture"], np.float64)
    return Scene(cameras=Cameras(**arrays, **cameras), images=images, **values)
