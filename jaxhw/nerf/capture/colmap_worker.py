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

SEED = 0
WORDS = 512  # of the vocabulary in which pictures are compared to find those worth matching
WELL_SEEN = 12  # points of each picture that a report may name
DESCRIPTORS = 50_000  # that the vocabulary is made of


def features(database: str, images: str, groups: Sequence[Mapping[str, Any]], camera: str, masks: str) -> None:
    """SIFT features of pictures; those that the database has already are not computed again.

    Args:
      groups: each with "names" of pictures that share a camera (or have one each if not "shared").
      camera: COLMAP's model.
      masks: a folder with NAME.png for pictures that have one, black where no feature may lie; or "".
    """
    for group in groups:
        reader = pycolmap.ImageReaderOptions(camera_model=camera)
        if masks:
            reader.mask_path = masks
        known = _camera_of(database, group["names"]) if group["shared"] else None
        if known is not None:
            reader.existing_camera_id = known
        pycolmap.extract_features(
            database_path=database,
            image_path=images,
            image_names=group["names"],
            camera_mode=pycolmap.CameraMode.SINGLE if group["shared"] else pycolmap.CameraMode.PER_IMAGE,
            reader_options=reader,
            extraction_options=pycolmap.FeatureExtractionOptions(use_gpu=False),
            device=pycolmap.Device.cpu,
        )


def vocabulary(database: str, path: str) -> None:
    """Visual words out of the pictures' own descriptors, so that none need be downloaded."""
    with pycolmap.Database.open(database) as db:
        images = [image.image_id for image in db.read_all_images() if db.exists_descriptors(image.image_id)]
        rng = np.random.default_rng(SEED)
        share = max(1, DESCRIPTORS // max(1, len(images)))
        chosen = []
        for image in images:
            data = np.asarray(db.read_descriptors(image).data)
            chosen.append(data[rng.permutation(len(data))[:share]])
    data = np.concatenate(chosen).astype(np.float32)
    options = pycolmap.VisualIndex.BuildOptions(num_visual_words=min(WORDS, len(data) // 4), num_iterations=20)
    index = pycolmap.VisualIndex.create(data.shape[1], 64)
    index.build(options, pycolmap.FeatureDescriptorsFloat(type=pycolmap.FeatureExtractorType.SIFT, data=data))
    index.write(path)


def matches(database: str, kind: str, overlap: int, vocabulary: str) -> None:
    """Matches pairs of pictures and keeps what fits one geometry; pairs that were matched before are not again.

    Args:
      kind: "sequential": each with the `overlap` next ones, those 2, 4, 8, ... further on, and (closing loops) those
        that share visual words; "retrieval": each with those that share most visual words; "exhaustive": all pairs.
    """
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    common = {
        "database_path": database,
        "matching_options": pycolmap.FeatureMatchingOptions(use_gpu=False),
        "verification_options": verification,
        "device": pycolmap.Device.cpu,
    }
    if kind == "exhaustive":
        pycolmap.match_exhaustive(**common)
    elif kind == "retrieval":
        options = pycolmap.VocabTreePairingOptions(num_images=overlap, vocab_tree_path=vocabulary)
        pycolmap.match_vocabtree(**common, pairing_options=options)
    else:
        options = pycolmap.SequentialPairingOptions(overlap=overlap, quadratic_overlap=True)
        # Without a vocabulary of ours COLMAP would download one.
        options.loop_detection, options.vocab_tree_path = bool(vocabulary), vocabulary or "."
        options.loop_detection_num_images = min(50, overlap * 2)
        pycolmap.match_sequential(**common, pairing_options=options)


def mapping(database: str, images: str, out: str, kind: str, counter: str) -> list[dict[str, Any]]:
    """Structure from motion, "incremental" or "global"; returns what `_summary` says of each model in `out`.

    Args:
      counter: a file that grows by a byte for each picture that has got a pose.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    common = {"database_path": database, "image_path": images, "output_path": out}
    if kind == "incremental":
        options = pycolmap.IncrementalPipelineOptions(random_seed=SEED, min_model_size=3)
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


STEPS = {step.__name__: step for step in (features, vocabulary, matches, mapping, inspect, export)}


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
