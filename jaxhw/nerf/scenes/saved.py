"""scene.json: what a run's workdir keeps of its scene, so that it can be rendered where the pictures are not."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxhw import files, json_file
from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import MODELS, Cameras
from jaxhw.nerf.scenes import points
from jaxhw.nerf.scenes.frames import LARGEST
from jaxhw.nerf.scenes.pictures import Pictures
from jaxhw.nerf.scenes.scene import Scene

# The float arrays of `Cameras`, and their shapes without the leading axis; distortion has 4 or 5 numbers.
CAMERA = {"pose": (3, 4), "focal": (2,), "centre": (2,), "distortion": (None,)}
SPLITS = ("train", "val", "test")
NEAR_FROM = ("format", "points", "guess")


def write(scene: Scene, path: Path) -> None:
    """Everything but the pixels; of very many points some."""
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
        "near_from": scene.near_from,
        "points": np.round(points.thinned(scene.points).astype(np.float64), 5).tolist(),
    }
    if scene.true_pose is not None:
        text["true_pose"] = np.asarray(scene.true_pose).tolist()
    files.write(path, json.dumps(text) + "\n")


def read(path: Path) -> Scene:
    """The scene with pictures of no pixels.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        return _scene(json_file.parse(path.read_bytes()))
    except FileNotFoundError:
        raise UserError(f"{path.parent} is no workdir of a NeRF run: it has no {path.name}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}): run the training command again, which writes it anew"
        ) from error


def _scene(values: dict[str, Any]) -> Scene:
    cameras = _cameras(values["cameras"])
    n, bounds = len(cameras), values["bounds"]
    split = {name: np.array(indices, np.int64).reshape(-1) for name, indices in values["split"].items()}
    _require(all(((rows >= 0) & (rows < n)).all() for rows in split.values()) and split.keys() >= {*SPLITS}, "split")
    _require(len(values["names"]) == n and all(isinstance(name, str) for name in values["names"]), "names")
    near, far = _numbers(values["near"], ()), _numbers(values["far"], ())
    _require(near < far, "near and far")
    near_from = values.get("near_from", "format")  # older runs took near as it stands here
    _require(near_from in NEAR_FROM, "near_from")
    return Scene(
        cameras=cameras,
        pictures=Pictures.without_pixels(cameras.size),
        names=values["names"],
        split=split,
        near=float(near),
        far=float(far),
        bounds=None if bounds is None else _numbers(bounds, (2, 3)).astype(np.float32),
        unbounded=bool(values["unbounded"]),
        to_capture=_numbers(values["to_capture"], (4, 4)),
        near_from=near_from,
        points=_numbers(values.get("points") or np.zeros((0, 3)), (None, 3)).astype(np.float32),  # older runs: none
        true_pose=_numbers(values["true_pose"], (n, 3, 4)).astype(np.float32) if "true_pose" in values else None,
    )


def _cameras(values: dict[str, Any]) -> Cameras:
    """Files from before pictures could differ in size have one `width` and `height` for all."""
    n = len(values["pose"])
    arrays = {name: _numbers(values[name], (n, *shape)).astype(np.float32) for name, shape in CAMERA.items()}
    size = values["size"] if "size" in values else [[values["width"], values["height"]]] * n
    size = _numbers(size, (n, 2))
    _require(n > 0 and size.min() >= 1 and size.max() <= LARGEST, "sizes")
    _require(values["model"] in MODELS, "model")
    return Cameras(**arrays, size=size.astype(np.int32), model=values["model"])


def _numbers(values: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """Finite float64 numbers of a shape, in which None is any length."""
    array = np.array(values, np.float64)
    fits = len(array.shape) == len(shape) and all(
        want in (None, is_) for is_, want in zip(array.shape, shape, strict=True)
    )
    _require(fits and np.isfinite(array).all(), f"array of shape {array.shape}")
    return array


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"its {what} cannot be")
