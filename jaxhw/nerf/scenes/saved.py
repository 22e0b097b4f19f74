"""scene.json: what a run's workdir keeps of its scene, so that it can be rendered where the pictures are not."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxhw import files
from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.scenes.pictures import Pictures
from jaxhw.nerf.scenes.scene import Scene

CAMERA = ("pose", "focal", "centre", "distortion")  # the float arrays of `Cameras`


def write(scene: Scene, path: Path) -> None:
    """Everything but the pixels."""
    cameras = scene.cameras
    text = {
        "cameras": {
            **{name: np.asarray(getattr(cameras, name)).tolist() for name in CAMERA},
            "size": np.asarray(cameras.size).tolist(),
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
    """The scene with pictures of no pixels.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        return _scene(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(f"{path.parent} is no workdir of a NeRF run: it has no {path.name}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}): run the training command again, which writes it anew"
        ) from error


def _scene(values: dict[str, Any]) -> Scene:
    cameras = _cameras(values["cameras"])
    bounds = values["bounds"]
    return Scene(
        cameras=cameras,
        pictures=Pictures.without_pixels(cameras.size),
        names=values["names"],
        split={name: np.array(indices, np.int64) for name, indices in values["split"].items()},
        near=values["near"],
        far=values["far"],
        bounds=None if bounds is None else np.array(bounds, np.float32),
        unbounded=values["unbounded"],
        to_capture=np.array(values["to_capture"], np.float64),
    )


def _cameras(values: dict[str, Any]) -> Cameras:
    """Files from before pictures could differ in size have one `width` and `height` for all."""
    arrays = {name: np.array(values[name], np.float32) for name in CAMERA}
    n = len(arrays["pose"])
    size = values["size"] if "size" in values else [[values["width"], values["height"]]] * n
    return Cameras(**arrays, size=np.array(size, np.int32).reshape(n, 2), model=values["model"])
