"""COLMAP's steps, each run in a process of its own: `python -m jaxhw.nerf.capture.colmap_worker STEP ARGUMENTS RESULT`.

COLMAP may abort a process in ways that no exception tells (a damaged picture, no memory), and its libraries don't get
on with every other one; here that ends a child, which `jaxhw.nerf.capture.colmap` reports. ARGUMENTS and RESULT are
JSON files; the result appears in one rename when the step is complete. The process writes nothing to a terminal.

All of it runs on the CPU, with SIFT features, without downloads, from a fixed seed.
"""

import collections
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image  # noqa: F401  before pycolmap: in the other order writing a PNG aborts the process
import pycolmap
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

SEED = 0
WORDS = 512  # visual words in which pictures are compared to find those worth matching
WELL_SEEN = 12  # points of each picture that a report may name
DESCRIPTORS = 20_000  # that the words are made of


def features(database: str, images: str, groups: Sequence[Mapping[str, Any]], camera: str, masks: str) -> None:
    """SIFT features of pictures; those that the database has already are not computed again.

    Args:
      groups: each with "names" of pictures that share a camera (or have one each if not "shared").
      camera: COLMAP's model.
      masks: a folder with NAME.png for pictures that have one, black where no feature may lie; or "".
    """
    pycolmap.Database.open(database).close()  # makes it
    for group in groups:
        reader = pycolmap.ImageReaderOptions(camera_model=camera)
        if masks:
            reader.mask_path = masks
        known = _camera_of(database, group["names"]) if group["shared"] else None
        if known is not None:
            reader.existing_camera_id = known
        common = {
            "database_path": database,
            "image_path": images,
            "image_names": group["names"],
            "camera_mode": pycolmap.CameraMode.SINGLE if group["shared"] else pycolmap.CameraMode.PER_IMAGE,
        }
        # Pictures get their numbers first: extraction would number them in the order in which its threads end, and
        # all that follows hangs on these numbers.
        pycolmap.import_images(**common, options=reader)
        if group["shared"]:
            reader.existing_camera_id = _camera_of(database, group["names"])
        extraction = pycolmap.FeatureExtractionOptions(use_gpu=False)
        pycolmap.extract_features(
            **common, reader_options=reader, extraction_options=extraction, device=pycolmap.Device.cpu
        )


def likeness(database: str, names: Sequence[str]) -> list[list[float]]:
    """[n][n] how alike pictures look: the cosine between their counts of visual words, weighted by how rare these are.

    The words are clusters of the pictures' own descriptors (Sivic and Zisserman, ICCV 2003), so that none need be
    downloaded.
    """
    descriptors = _descriptors(database, names)
    share = max(1, DESCRIPTORS // max(1, len(names)))
    rng = np.random.default_rng(SEED)
    sample = np.concatenate([data[rng.permutation(len(data))[:share]] for data in descriptors])
    if not len(sample):
        return np.eye(len(names)).tolist()
    words = max(1, min(WORDS, len(sample) // 4))
    with threadpool_limits(1):  # several threads add up in the order in which they end
        clusters = KMeans(words, init="random", n_init=1, max_iter=10, random_state=SEED).fit(sample)
        word = clusters.predict(np.concatenate(descriptors))
    picture = np.repeat(np.arange(len(names)), [len(data) for data in descriptors])
    counts = np.zeros((len(names), words))
    np.add.at(counts, (picture, word), 1)
    weighted = np.sqrt(counts) * np.log((1 + len(names)) / (1 + (counts > 0).sum(0)))
    weighted /= np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)
    return np.round(weighted @ weighted.T, 6).tolist()


def _descriptors(database: str, names: Sequence[str]) -> list[np.ndarray]:
    """[k, 128] float32 of each picture, of 0 rows where it has none."""
    with pycolmap.Database.open(database) as db:
        numbers = {image.name: image.image_id for image in db.read_all_images()}
        read = lambda number: np.asarray(db.read_descriptors(number).data, np.float32).reshape(-1, 128)
        return [
            read(numbers[name]) if db.exists_descriptors(numbers[name]) else np.zeros((0, 128), np.float32)
            for name in names
        ]


def matches(database: str, pairs: str) -> None:
    """Matches pairs of pictures and keeps what fits one geometry; pairs that were matched before are not again.

    Args:
      pairs: a text file with two names in each line. COLMAP's own choices of pairs hang on the timing of threads.
    """
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    pycolmap.match_image_pairs(
        database_path=database,
        matching_options=pycolmap.FeatureMatchingOptions(use_gpu=False),
        pairing_options=pycolmap.ImportedPairingOptions(match_list_path=pairs),
        verification_options=verification,
        device=pycolmap.Device.cpu,
    )


def mapping(database: str, images: str, out: str, kind: str, counter: str) -> list[dict[str, Any]]:
    """Structure from motion, "incremental" or "global"; returns what `_summary` says of each model in `out`.

    Args:
      counter: a file that grows by a byte for each picture that has got a pose.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    common = {"database_path": database, "image_path": images, "output_path": out}
    if kind == "incremental":
        # One thread: as fast as several on such models (9 s against 13 of 111 pictures on two cores), and repeatable.
        options = pycolmap.IncrementalPipelineOptions(random_seed=SEED, min_model_size=3, num_threads=1)
        with open(counter, "wb", buffering=0) as file:
            each = lambda: file.write(b".") and None
            models = pycolmap.incremental_mapping(**common, options=options, next_image_callback=each)
    else:
        models = pycolmap.global_mapping(**common, options=pycolmap.GlobalPipelineOptions(random_seed=SEED))
    return [_summary(Path(out) / str(number), model) for number, model in models.items()]


def inspect(model: str) -> dict[str, Any]:
    """What `_summary` says of a model on the disk."""
    return _summary(Path(model), pycolmap.Reconstruction(model))


def export(model: str, out: str, ply: str, metres: tuple[int, int, float] | None) -> dict[str, Any]:
    """Writes a model, its points also as a .ply, and returns its points that most pictures see.

    Args:
      metres: the ids of two points and the distance that they shall have; None leaves the scale as it is.

    Returns:
      {"scale", "missing": ids of `metres` that the model does not have, "points": see `_point`}; where points are
      missing nothing is written.
    """
    reconstruction, scale = pycolmap.Reconstruction(model), 1.0
    if metres:
        ends, length = metres[:2], metres[2]
        if missing := [number for number in ends if not reconstruction.exists_point3D(number)]:
            return {"scale": scale, "missing": missing, "points": []}
        a, b = (reconstruction.point3D(number).xyz for number in ends)
        scale = length / max(float(np.linalg.norm(a - b)), 1e-12)
        reconstruction.transform(pycolmap.Sim3d(scale, pycolmap.Rotation3d(), np.zeros(3)))
    Path(out).mkdir(parents=True, exist_ok=True)
    reconstruction.write_binary(out)
    reconstruction.export_PLY(ply)
    return {
        "scale": scale,
        "missing": [],
        "points": [_point(reconstruction, *point) for point in _well_seen(reconstruction)],
    }


def _well_seen(reconstruction: pycolmap.Reconstruction) -> list[tuple[int, pycolmap.Point3D]]:
    """(id, point) of the `WELL_SEEN` points of each picture that most pictures see, those seen most often first."""
    points = sorted(reconstruction.points3D.items(), key=lambda item: (-item[1].track.length(), item[0]))
    told, chosen = collections.Counter(), []
    for number, point in points:
        pictures = {element.image_id for element in point.track.elements}
        if any(told[picture] < WELL_SEEN for picture in pictures):
            chosen.append((number, point))
            told.update(pictures)
    return chosen


def _point(reconstruction: pycolmap.Reconstruction, number: int, point: pycolmap.Point3D) -> dict[str, Any]:
    """{"id", "position", "error": of its reprojection in pixels, "seen": [(picture, x, y)]}."""
    seen = []
    for element in point.track.elements:
        image = reconstruction.image(element.image_id)
        seen.append((image.name, *(round(float(v), 1) for v in image.points2D[element.point2D_idx].xy)))
    return {"id": number, "position": point.xyz.tolist(), "error": float(point.error), "seen": seen}


def _summary(folder: Path, model: pycolmap.Reconstruction) -> dict[str, Any]:
    """{"folder", "images" that are registered, "points", "error": mean reprojection error in pixels, "cameras"}."""
    cameras = [
        {"model": c.model.name, "size": (c.width, c.height), "parameters": list(map(float, c.params))}
        for c in model.cameras.values()
    ]
    return {
        "folder": str(folder),
        "images": sorted(model.image(number).name for number in model.reg_image_ids()),
        "points": model.num_points3D(),
        "error": float(model.compute_mean_reprojection_error()),
        "cameras": cameras,
    }


def _camera_of(database: str, names: Sequence[str]) -> int | None:
    """The camera that some picture of these has in the database."""
    wanted = set(names)
    if not Path(database).exists():
        return None
    with pycolmap.Database.open(database) as db:
        return next((image.camera_id for image in db.read_all_images() if image.name in wanted), None)


STEPS = {step.__name__: step for step in (features, likeness, matches, mapping, inspect, export)}


def _end_with_parent() -> None:
    """Ends this process when the one that started it has ended, and with it the pipe that is our standard input."""
    os.read(0, 1)
    os._exit(1)


def main(step: str, arguments: str, result: str) -> None:
    """Runs one of `STEPS`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pycolmap.set_random_seed(SEED)
    returned = STEPS[step](**json.loads(Path(arguments).read_text()))
    partial = Path(f"{result}.tmp")
    partial.write_text(json.dumps(returned))
    partial.replace(result)
    os._exit(0)  # what libraries do at an interpreter's end can only harm now


if __name__ == "__main__":
    main(*sys.argv[1:])
