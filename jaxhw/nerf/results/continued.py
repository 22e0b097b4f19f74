"""Going on from another run with more pictures: `config.init_from`, for scenes.

A field is learnt in a frame. The new scene is brought into the older run's, pictures are matched by their names, and
what was learnt for a picture (its correction, its rows of the field's `per_picture`) goes to the picture of that name.
Or corrections alone are taken: a field that was begun with wrong poses keeps what it made of them.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxhw import tree
from jaxhw.errors import UserError
from jaxhw.nerf.cameras import alignment
from jaxhw.nerf.cameras.correction import POSE
from jaxhw.nerf.results.posed import Posed
from jaxhw.nerf.results.run import Run
from jaxhw.nerf.scenes import report, saved
from jaxhw.nerf.scenes.scene import Scene
from jaxhw.state import Variables

PyTree = Any
AWAY = 0.02  # of the cameras' extent that a picture may be elsewhere than it was in the older run


def in_frame_of(scene: Scene, config: ConfigDict) -> Scene:
    """The scene in the frame of the run that `config.init_from` names, with its near, far and bounds; else as it is.

    The older run's scene.json is read each time that a run begins or resumes, its weights only before the first step.

    Raises:
      UserError: the two scenes are not of one capture.
    """
    source = config.get("init_from", "")
    if not source:
        return scene
    old = saved.read(Path(source).expanduser() / "scene.json")
    if (old.true_pose is not None) != any(config.cameras.perturb):
        raise UserError(f"config.init_from={source}: config.cameras.perturb must be what it was there")
    to_old = np.linalg.inv(old.to_capture) @ scene.to_capture
    poses = alignment.moved_poses(scene.cameras.pose, to_old)
    without_noise = old.cameras.pose if old.true_pose is None else old.true_pose
    _check_places(scene.names, poses, old.names, without_noise, source)
    return dataclasses.replace(
        scene,
        cameras=scene.cameras.replace(pose=poses.astype(np.float32)),
        near=old.near,
        far=old.far,
        bounds=old.bounds,
        unbounded=old.unbounded,
        to_capture=old.to_capture,
        near_from=old.near_from,
        points=(scene.points @ to_old[:3, :3].T + to_old[:3, 3]).astype(np.float32),
    )


def _check_places(
    names: Sequence[str], poses: np.ndarray, old_names: Sequence[str], old_poses: np.ndarray, source: str
) -> None:
    """Refuses pictures [n] whose poses, in the older run's frame, are not where they were there."""
    found = {name: i for i, name in enumerate(names)}
    common = [(found[name], i) for i, name in enumerate(old_names) if name in found]
    if not common:
        raise UserError(f"config.init_from={source}: its scene has no picture of a name that this scene has")
    ours, theirs = np.array(common).T
    apart = np.linalg.norm(poses[ours, :, 3] - old_poses[theirs, :, 3], axis=1)
    share = float(np.median(apart) / max(alignment.extent(old_poses[:, :, 3]), 1e-12))
    if share > AWAY:
        raise UserError(
            f"config.init_from={source}: the pictures of both scenes are elsewhere in this one, by {share:.0%} of the "
            "cameras' extent; add the new pictures to the same COLMAP model, so that both have one frame"
        )


def weights(posed: Posed, scene: Scene, config: ConfigDict, mesh: Mesh, shapes: Variables) -> dict[str, PyTree]:
    """What a run starts with, out of the run that `config.init_from` names: see `Task.init_from`.

    Raises:
      UserError: that run is of another field, or what it has learnt has other shapes.
    """
    source = config.init_from
    old = Run.open(Path(source).expanduser(), mesh)
    row_of = {old.scene.names[i]: row for row, i in enumerate(old.scene.split["train"])}
    rows = np.array([row_of.get(scene.names[i], -1) for i in scene.split["train"]])
    report.say(f"init_from {source}: it knows {(rows >= 0).sum()} of {len(rows)} training pictures")
    _check_noise(scene, old.scene, rows, source)
    corrections = _corrections(posed, old, rows, source)
    if posed.options.init_only:
        return {"params": {"cameras": corrections}}
    if old.config.model.name != config.model.name:
        raise UserError(
            f"config.init_from={source}: its field is {old.config.model.name}, and this run's {config.model.name}"
        )
    variables = jax.device_get(old.variables)

    def of_pictures(path: tuple, leaf: np.ndarray) -> np.ndarray:
        own = tree.path_name(path).split("/")[0] in posed.field.per_picture
        return _taken(leaf, rows, leaf.mean(0)) if own else leaf

    params = jax.tree_util.tree_map_with_path(of_pictures, variables.params)
    found = posed.joined(Variables(params, variables.model_state), corrections)
    _check(found, shapes, source)
    return {"params": found.params, "model_state": found.model_state}


def _check_noise(scene: Scene, old: Scene, rows: np.ndarray, source: str) -> None:
    """Refuses noise on the cameras (`config.cameras.perturb`) that is not the older run's: corrections belong to it."""
    if scene.true_pose is None:
        return
    ours, theirs = scene.cameras.pose[scene.split["train"]], old.cameras.pose[old.split["train"]]
    if not np.allclose(ours[rows >= 0], theirs[rows[rows >= 0]], atol=1e-4):
        raise UserError(
            f"config.init_from={source}: the noise on its cameras is another; it takes the same "
            "config.cameras.perturb, config.seed and training pictures"
        )


def _corrections(posed: Posed, old: Run, rows: np.ndarray, source: str) -> np.ndarray | None:
    """[n, d] corrections of the training pictures, 0 of those that the older run does not know."""
    theirs = old.posed.options
    if old.posed.correction is not None and theirs.refine != posed.options.refine:
        raise UserError(
            f"config.init_from={source} refined its cameras: set config.cameras.refine={theirs.refine} as that run has"
        )
    if posed.correction is None or old.posed.correction is None:
        return posed.correction and posed.correction.start(len(rows))
    values = np.asarray(old.posed.correction.physical(old.rows))
    ours, same = posed.correction, (theirs.focal, theirs.distortion) == (posed.options.focal, posed.options.distortion)
    count = ours.size if same else POSE
    new = np.zeros((len(rows), ours.size), np.float32)
    new[:, :count] = _taken(values[:, :count], rows, np.zeros(count, np.float32))
    return ours.learnt(new)


def _taken(array: np.ndarray, rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Rows of an array, and `other` where a row is -1."""
    known = (rows >= 0).reshape(-1, *[1] * (array.ndim - 1))
    return np.where(known, array[np.maximum(rows, 0)], other).astype(array.dtype)


def _check(found: Variables, shapes: Variables, source: str) -> None:
    """Compares the shapes of all arrays with those that the run starts with."""
    ours, theirs = ({name: leaf.shape for name, leaf in tree.by_name(v).items()} for v in (shapes, found))
    odd = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    if odd:
        told = f"{odd[0]} is {theirs.get(odd[0], 'not')} there and {ours.get(odd[0], 'not')} here"
        raise UserError(
            f"config.init_from={source}: what that run has learnt does not fit ({told}); it takes the same "
            "config.model, and a field that does not change its shapes while it is learnt"
        )
