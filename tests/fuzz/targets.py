"""Files that users and dying machines damage, small and sound, and the readers that must say so in one line."""

import dataclasses
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from jaxhw import metrics, study
from jaxhw.nerf.scenes import saved, scene
from jaxhw.vision.data.folder import read_image
from jaxhw.vision.tasks import classify
from jaxhw.vision.weights import torch_file
from tests.golden import FOLDER
from tests.nerf import folders

STUDY = (
    '{"columns": ["a"], "curves": ["r"], "points": [[1.0, "r"]], "x": "n", '
    '"runs": [{"run": "r", "state": "done", "seeds": {"0": {"a": 1.0}}}]}'
)


@dataclasses.dataclass(frozen=True)
class Target:
    """A file to damage and what reads it."""

    path: Path
    read: Callable[[], object]


def write(folder: Path) -> list[Target]:
    """All targets, their sound files written beneath a folder."""
    return [
        *_workdirs(folder / "runs"),
        *_scenes(folder / "scenes"),
        *_pictures(folder / "pictures"),
        *_weights(folder),
    ]


def _workdirs(folder: Path) -> list[Target]:
    with tarfile.open(FOLDER / "workdirs_3633523.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    digits, demo = folder / "digits", folder / "demo"
    (digits / "study.json").write_text(STUDY)
    (digits / "train").mkdir()
    (digits / "train" / "metrics.jsonl").write_bytes((digits / "metrics.jsonl").read_bytes())

    def resume() -> None:
        writer = metrics.Writer(digits / "train", 5)
        writer.write(6, 1.0, {"loss": 1.0})
        writer.close()

    return [
        Target(digits / "config.json", lambda: classify.read_config(digits)),
        Target(digits / "labels.json", lambda: classify.read_labels(digits)),
        Target(digits / "results.json", lambda: metrics.results(digits)),
        Target(digits / "study.json", lambda: study.points(study.read_view(digits))),
        Target(digits / "metrics.jsonl", lambda: metrics.read(digits / "metrics.jsonl")),
        Target(digits / "train" / "metrics.jsonl", resume),
        Target(demo / "scene.json", lambda: saved.read(demo / "scene.json")),
    ]


def _scenes(folder: Path) -> list[Target]:
    scenes = {
        "transforms": (folders.write_transforms, ("transforms.json", "images/003.png"), "every:8"),
        "llff": (folders.write_llff, ("poses_bounds.npy",), "every:8"),
        "colmap": (folders.write_colmap, ("sparse/0/images.bin", "sparse/0/cameras.bin"), "every:8"),
        "text": (folders.write_colmap_text, ("sparse/0/images.txt", "sparse/0/cameras.txt"), "every:8"),
        "blender": (folders.write_blender, ("transforms_train.json",), "given"),
    }
    targets = []
    for name, (write_scene, files, split) in scenes.items():
        write_scene(folder / name)
        load = lambda name=name, split=split: scene.load(str(folder / name), 1, split)
        targets += [Target(folder / name / file, load) for file in files]
    return targets


def _pictures(folder: Path) -> list[Target]:
    folder.mkdir(parents=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))
    targets = []
    for suffix in ("png", "jpg", "webp", "tiff", "bmp", "gif"):
        path = folder / f"picture.{suffix}"
        picture.save(path)
        targets.append(Target(path, lambda path=path: read_image(path, 16)))
    return targets


def _weights(folder: Path) -> list[Target]:
    targets = []
    for sound in sorted(FOLDER.glob("weights_*.*")):
        if sound.suffix in (".pth", ".safetensors"):
            path = folder / sound.name
            path.write_bytes(sound.read_bytes())
            targets.append(Target(path, lambda path=path: torch_file.read(path)))
    return targets
