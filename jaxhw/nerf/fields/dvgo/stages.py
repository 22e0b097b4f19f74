"""How DVGO's grids come about: the coarse grid from the cameras, the fine one from the coarse, growth, free space.

All of it happens between two steps, on the host, as functions of parameters and state: sizes depend on the data. The
state of a grid: `box` [2, 3] in the world, `mask` [x, y, z] (where samples count), `cells` (where blocks of samples
may), `rows` (which vertex has which row of the tables), `shift` (of the density's activation), `step`, `overflow` (a
running mean of the share of rays that are left out); `rate` in the coarse stage of a bounded scene.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras, shoot
from jaxhw.nerf.fields.dvgo.space import Box, Contracted, Space
from jaxhw.nerf.networks import voxel_grid as grids
from jaxhw.nerf.scenes.scene import Scene

if TYPE_CHECKING:
    from jaxhw.nerf.fields.dvgo.field import DVGO

PyTree = Any

LEAST_VIEWS = 3  # a voxel that fewer see is never trained
BOX_SCALE = 1.05  # of the fine grid's box over what the coarse grid found
SURVEY = 64**3  # voxels on which the coarse box is chosen
MOST_INHERITED = 3.0  # optical thickness of a voxel that the fine grid takes over: no more than training can undo


def plan(field: "DVGO") -> list[tuple[int, str]]:
    """(step, what happens before it): "fine" after the coarse stage, "double" the voxels, "tighten" the mask."""
    fine = [(field.coarse_steps, "fine")] if field.coarse_steps else []
    double = [(field.coarse_steps + step, "double") for step in field.grow_at]
    taken = {step for step, _ in fine + double}
    every, ends = field.tighten_every, ((0, field.coarse_steps), (field.coarse_steps, field.steps))
    tighten = [step for begin, end in ends for step in range(begin + every // 2, end, every)] if every else []
    events = fine + double + [(step, "tighten") for step in tighten if step not in taken]
    return sorted(event for event in events if event[0] < field.steps)


def grow(field: "DVGO", params: PyTree, state: PyTree, event: str) -> tuple[PyTree, PyTree]:
    """Parameters and state after an event of `plan`."""
    params, state = jax.device_get((params, state))
    return {"fine": _fine, "double": _double, "tighten": _tighten}[event](field, params, state)


def with_start(field: "DVGO", scene: Scene, coverage: float, inner: float) -> "DVGO":
    """The field with its start for a scene's training cameras; `coverage` is for bounded scenes, `inner` for others."""
    cameras = scene.cameras[scene.split["train"]]
    make = _unbounded(field, cameras, inner) if field.shell else _coarse(field, cameras, scene.bounds, coverage)
    return dataclasses.replace(field, start=make)


def _coarse(field: "DVGO", cameras: Cameras, bounds: np.ndarray | None, coverage: float) -> tuple[PyTree, PyTree]:
    """Parameters and state of the coarse stage.

    The box is `bounds`, or around all frusta; within it, the box of what at least `coverage` of the cameras see.
    Voxels within `near` of a camera are masked, as are those that fewer than three cameras see. Density learns at a
    rate proportional to the number of cameras that see it: with the parameter q = density / rate, Adam, whose steps do
    not depend on the gradient's scale, takes steps of rate * lr in density, so that no optimiser of its own is needed.
    """
    near, far, phase = field.near, field.far, field.coarse
    box = frusta_box(cameras, near, far) if bounds is None else np.asarray(bounds, np.float32)
    if coverage and bounds is None:
        shape = grids.shape_of(box, SURVEY)
        seen = views(cameras, _points(box, shape), near, far).reshape(shape)
        if not (common := seen >= coverage * len(cameras)).any():
            raise UserError(
                f"the scene's box has nothing in it: no point is seen by {coverage:.0%} of the cameras; lower "
                "config.model.coverage"
            )
        box = _box_around(common, box)
    space = _space(field, phase.stride, box, phase.voxels)
    mask, seen = _seen(cameras, _points(box, space.shape), space.shape, near, far)
    state = _state(space, mask, phase.alpha, step=0)
    rate = np.maximum(seen / seen.max(), 1e-6)[state["rows"] >= 0][:, None].astype(np.float32)
    return _coarse_params(state), _with_neighbours(field, {**state, "rate": rate})


def _unbounded(field: "DVGO", cameras: Cameras, inner: float) -> tuple[PyTree, PyTree]:
    """Parameters and state of an unbounded scene, of the coarse stage where there is one.

    The inner cube lies around the origin, which is what the cameras look at, and reaches to the outermost camera's
    coordinate times `inner`. (DVGO v2's lies around the cameras, which assumes that they are all around: an arc of
    cameras would have its subject outside.) Voxels within `near` of a camera are masked, which keeps floaters from it;
    v2 has a loss for that. All voxels learn at one rate, as v2's.
    """
    radius = inner * max(float(np.abs(cameras.pose[:, :, 3]).max()), 1e-6)
    box = np.array([[-radius] * 3, [radius] * 3], np.float32)
    phase, voxels = field.coarse, field.coarse.voxels
    if not field.coarse_steps:
        phase, voxels = field.fine, _first_voxels(field)
    space = _space(field, phase.stride, box, voxels)
    points = radius * _expand((grids.vertices(space.shape) * 2 - 1) * (1 + field.shell), field.shell)
    mask, _ = _seen(cameras, points, space.shape, field.near, np.inf)
    state = _state(space, mask, phase.alpha, step=0)
    params = _coarse_params(state) if field.coarse_steps else _fine_params(field, state)
    return params, _with_neighbours(field, state)


def _seen(
    cameras: Cameras, points: np.ndarray, shape: tuple[int, int, int], near: float, far: float
) -> tuple[np.ndarray, np.ndarray]:
    """(which vertices, at points [x * y * z, 3], can be learnt; how many cameras see them), [x, y, z] each."""
    seen, least = views(cameras, points, near, far), min(LEAST_VIEWS, len(cameras))
    mask = (seen >= least) & ~_close(cameras, points, near)
    if not mask.any():
        raise UserError(
            f"the scene's box has nothing in it: no point at least {near:g} away from every training camera is seen by "
            f"{least} of them; check the poses and config.model.near"
        )
    return mask.reshape(shape), seen.reshape(shape)


def frusta_box(cameras: Cameras, near: float, far: float) -> np.ndarray:
    """The box [2, 3] around all cameras' frusta between `near` and `far`."""
    w, h = cameras.width, cameras.height
    pixels = np.array([[0, 0], [w, 0], [0, h], [w, h]], np.float32)[:, None]  # broadcasts against the cameras
    origins, directions = (np.asarray(a) for a in shoot(cameras, pixels))
    ends = np.concatenate([origins + directions * d for d in (near, far)]).reshape(-1, 3)
    return np.stack([ends.min(0), ends.max(0)]).astype(np.float32)


def views(cameras: Cameras, points: np.ndarray, near: float, far: float) -> np.ndarray:
    """How many cameras have a point in their picture, [k] int32, for points [k, 3]; lens distortion is left out."""

    def add(count, camera):
        pose, focal, centre = camera
        local = (points - pose[:, 3]) @ pose[:, :3]
        pixel = local[:, :2] / jnp.maximum(local[:, 2:], 1e-6) * focal + centre
        inside = ((pixel >= 0) & (pixel <= jnp.array([cameras.width, cameras.height]))).all(-1)
        distance = jnp.sqrt((local**2).sum(-1))
        return count + (inside & (local[:, 2] > 0) & (distance >= near) & (distance <= far)), None

    arrays = cameras.pose, cameras.focal, cameras.centre
    return np.asarray(jax.jit(lambda: jax.lax.scan(add, jnp.zeros(len(points), jnp.int32), arrays)[0])())


def _fine(field: "DVGO", params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
    """The first fine grid: the box of what the coarse grid found opaque, its free space masked.

    An unbounded scene's keeps the inner cube.
    """
    opacity = np.asarray(_opacity(field, params, state))
    found = opacity > field.min_opacity
    if not found.any():
        raise UserError(
            "the coarse stage found nothing: no voxel is opaque; train it longer or check the poses and bounds"
        )
    box = state["box"]
    if not field.shell:
        box = _box_around(found, box)
        box = box.mean(0) + (box - box.mean(0)) * BOX_SCALE
    space = _space(field, field.fine.stride, box, _first_voxels(field))
    where, inside = _places(state, box, space.shape)
    opaque = state["mask"] & np.asarray(grids.dilate(jnp.asarray(opacity)) >= field.min_opacity)
    mask = inside & np.asarray(grids.lookup(jnp.asarray(opaque), where))
    new = _state(space, mask.reshape(space.shape), field.fine.alpha, state["step"])
    fresh = _fine_params(field, new)
    if field.inherit:
        fresh["density"] = _inherited(field, params, state, fresh, new)
    return fresh, _with_neighbours(field, new)


def _inherited(field: "DVGO", params: PyTree, state: PyTree, fresh: PyTree, new: PyTree) -> np.ndarray:
    """Raw density [v, 1] that makes the fine grid as thick as the coarse one, where that is more than at its start."""
    per_length = lambda p, s: field.interval(p, s) * field.phase(p).stride / field.space(p, s).step
    raw = field.density(params, state) + state["shift"]
    where = _places(state, new["box"], new["mask"].shape)[0][new["rows"].ravel() >= 0]
    thickness = jax.jit(grids.read)(jax.nn.softplus(raw), jnp.asarray(state["rows"]), where)
    wanted = thickness * per_length(params, state) / per_length(fresh, new)
    raw = jnp.log(jnp.expm1(jnp.clip(wanted, 1e-6, MOST_INHERITED)))
    return np.asarray(jnp.maximum(raw - new["shift"], 0), np.float32)


def _double(field: "DVGO", params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
    """Twice the voxels, by interpolation; what is free by now is masked; the activation's shift goes down by `decay`.

    DVGO's decay of 1 divides all thin densities by e, and the picture gets worse until they are learnt anew: worth it
    in tens of thousands of steps, since it frees space, and too dear in a few thousand.
    """
    box, old = state["box"], state["mask"].shape
    space = _space(field, field.fine.stride, box, 2 * float(np.prod(old)))
    where, _ = _places(state, box, space.shape)
    density = np.asarray(jax.jit(grids.read)(params["density"], state["rows"], where)).reshape(space.shape)
    alpha = _activate(field, params, {**state, "mask": np.empty(space.shape, bool)}, density)
    live = np.asarray(grids.dilate(alpha)) > field.fine.threshold
    mask = live & np.asarray(grids.lookup(jnp.asarray(state["mask"]), where)).reshape(space.shape)
    new = {**_state(space, mask, 0.5, state["step"]), "shift": state["shift"] - np.float32(field.decay)}
    kept = where[new["rows"].ravel() >= 0]
    tables = {name: jax.jit(grids.read)(params[name], state["rows"], kept) for name in ("density", "features")}
    return {**params, **tables}, _with_neighbours(field, new)


def _tighten(field: "DVGO", params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
    """Masks what has become free; no shape changes, so the optimiser goes on."""
    space, phase = field.space(params, state), field.phase(params)
    mask = state["mask"] & (np.asarray(grids.dilate(_opacity(field, params, state))) > phase.threshold)
    return params, {**state, "mask": mask, "cells": np.asarray(grids.coarsen(jnp.asarray(mask), space.reach))}


def _space(field: "DVGO", stride: float, box: np.ndarray, voxels: float) -> Space:
    """A grid of about `voxels` in a box, or in all of space around it."""
    if not field.shell:
        return Box(box, grids.shape_of(box, voxels), stride)
    return Contracted(box, (max(4, round(voxels ** (1 / 3))),) * 3, stride, field.shell)


def _first_voxels(field: "DVGO") -> float:
    """Of the fine grid before it has doubled."""
    return field.fine.voxels / 2 ** len(field.grow_at)


def _state(space: Space, mask: np.ndarray, alpha: float, step) -> PyTree:
    return {
        "box": np.asarray(space.box, np.float32),
        "mask": mask,
        "cells": np.asarray(grids.coarsen(jnp.asarray(mask), space.reach)),
        "rows": grids.number_rows(mask),
        "shift": np.float32(math.log(1 / (1 - alpha) - 1)),
        "step": np.int32(step),
        "overflow": np.float32(0),
    }


def _with_neighbours(field: "DVGO", state: PyTree) -> PyTree:
    """Adds `following` [v, 3] for the total variation: the row next to each along x, y and z, or itself."""
    if not any(field.total_variation):
        return state
    rows = np.pad(state["rows"], ((0, 1),) * 3, constant_values=-1)
    own = state["rows"]
    nexts = [rows[1:, :-1, :-1], rows[:-1, 1:, :-1], rows[:-1, :-1, 1:]]
    following = np.stack([np.where(n >= 0, n, own)[own >= 0] for n in nexts], -1)
    return {**state, "following": following}


def _coarse_params(state: PyTree) -> PyTree:
    v = int(state["rows"].max()) + 1
    return {"density": np.zeros((v, 1), np.float32), "features": np.zeros((v, 3), np.float32)}


def _fine_params(field: "DVGO", state: PyTree) -> PyTree:
    v = int(state["rows"].max()) + 1
    sample = jnp.zeros((1, field.channels)), jnp.zeros((1, field.widths[0])), jnp.zeros(1, jnp.int32)
    network = field.network.init(jax.random.key(field.seed), *sample)
    density, features = np.zeros((v, 1), np.float32), np.zeros((v, field.channels), np.float32)
    return {"density": density, "features": features, "colour": jax.device_get(network["params"])}


def _opacity(field: "DVGO", params: PyTree, state: PyTree) -> jax.Array:
    """Opacity of a voxel's length at each vertex, [x, y, z]; 0 where there are no voxels."""
    raw = grids.scatter_rows(jnp.asarray(field.density(params, state)[:, 0]), jnp.asarray(state["rows"]), -jnp.inf)
    return _activate(field, params, state, raw)


def _activate(field: "DVGO", params: PyTree, state: PyTree, raw: jax.Array) -> jax.Array:
    return -jnp.expm1(-field.interval(params, state) * jax.nn.softplus(raw + state["shift"]))


def _box_around(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The box [2, 3] around the voxels whose middles are the vertices in `mask` of a grid in `box`, as far as in it."""
    where, last = np.argwhere(mask), np.array(mask.shape) - 1
    fractions = np.clip(np.stack([where.min(0) - 0.5, where.max(0) + 0.5]), 0, last) / last
    return (box[0] + fractions * (box[1] - box[0])).astype(np.float32)


def _points(box: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    return (box[0] + grids.vertices(shape) * (box[1] - box[0])).astype(np.float32)


def _places(state: PyTree, box: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of a grid of `shape` in `box` in the coordinates of `state`'s grid [k, 3], and whether they are inside.

    Contracted grids keep their cube, so that they may be taken for boxes here.
    """
    own = state["box"]
    fractions = (_points(box, shape) - own[0]) / (own[1] - own[0])
    inside = ((fractions > -1e-5) & (fractions < 1 + 1e-5)).all(-1)
    return fractions * (np.array(state["mask"].shape) - 1), inside


def _close(cameras: Cameras, points: np.ndarray, near: float) -> np.ndarray:
    """Whether points [k, 3] are within `near` of a camera, [k]."""
    add = lambda close, centre: (close | (((points - centre) ** 2).sum(-1) < near**2), None)
    return np.asarray(jax.jit(lambda: jax.lax.scan(add, jnp.zeros(len(points), bool), cameras.pose[:, :, 3])[0])())


def _expand(x: np.ndarray, shell: float) -> np.ndarray:
    """The inverse of `space.contract`, with what is infinitely far away moved to 1000 radii."""
    m = np.abs(x).max(-1, keepdims=True)
    n = np.where(m > 1, shell / np.maximum(1 + shell - m, shell / 1000), np.maximum(m, 1e-9))
    return np.where(m > 1, x / np.maximum(m, 1e-9) * n, x)
