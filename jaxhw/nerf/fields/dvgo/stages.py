"""How DVGO's grids come about: coarse-to-fine, progressive growing, and what becomes known as free space.

The coarse grid comes from the cameras (`start`); an event of `plan` makes the fine one from it ("fine"), doubles the
fine one's voxels ("double") or masks what has become free ("tighten"). All of it happens on the host, between two
steps: sizes depend on what has been learnt.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.normalise import reach
from jaxhw.nerf.fields.dvgo import visibility
from jaxhw.nerf.fields.dvgo.grid import (
    CoarseParams,
    CoarseState,
    FineParams,
    FineState,
    Grid,
    Params,
    State,
    colour_network,
    place,
)
from jaxhw.nerf.fields.dvgo.options import Options
from jaxhw.nerf.fields.dvgo.space import Space
from jaxhw.nerf.fields.field import Setting
from jaxhw.nerf.networks import voxel_grid
from jaxhw.nerf.networks.contraction import expand
from jaxhw.state import Variables

BOX_SCALE = 1.05  # of the fine grid's box over what the coarse grid found
SURVEY = 64**3  # voxels on which the coarse box is chosen
NOTHING_LEFT = (
    "no voxel is left to learn: all of the box became free space; lengthen config.steps, or check the poses and bounds"
)
MOST_INHERITED = 3.0  # optical thickness of a voxel that the fine grid takes over: no more than training can undo


def plan(options: Options, steps: float) -> list[tuple[int, str]]:
    """(step, the event before it), ascending."""
    if not math.isfinite(steps):
        return []
    coarse = options.coarse_steps
    fine = [(coarse, "fine")] if coarse else []
    double = [(coarse + step, "double") for step in options.grow_at]
    taken = {step for step, _ in fine + double}
    every, ends = options.tighten_every, ((0, coarse), (coarse, int(steps)))
    tighten = [step for begin, end in ends for step in range(begin + every // 2, end, every)] if every else []
    events = fine + double + [(step, "tighten") for step in tighten if step not in taken]
    return sorted(event for event in events if event[0] < steps)


def start(options: Options, setting: Setting, rng: jax.Array) -> Variables:
    """The variables before the first step."""
    if options.shell:
        return _start_unbounded(options, setting, rng)
    return _start_bounded(options, setting)


def grow(options: Options, variables: Variables, event: str, rng: jax.Array) -> Variables:
    """The variables after an event of `plan`."""
    variables = jax.device_get(variables)
    if event == "fine":
        return _fine(options, variables, rng)
    return {"double": _double, "tighten": _tighten}[event](options, variables)


def _start_bounded(options: Options, setting: Setting) -> Variables:
    """A coarse grid in a box.

    The box is the scene's, or around all frusta; within it, the box of what at least `coverage` of the cameras see.
    Voxels within `near` of a camera are masked, as are those that fewer than `least_cameras` see. Density learns at a
    per-voxel learning rate, proportional to the number of cameras that see the voxel.
    """
    cameras, near, far = setting.cameras, setting.near, setting.far
    # The box.
    bounds = setting.bounds
    box = visibility.frusta_box(cameras, near, far) if bounds is None else np.asarray(bounds, np.float32)
    if options.coverage and bounds is None:
        shape = voxel_grid.shape_of(box, SURVEY)
        seen = visibility.count_cameras(cameras, _points(box, shape), near, far).reshape(shape)
        common = seen >= options.coverage * len(cameras)
        if not common.any():
            raise UserError(
                f"the scene's box has nothing in it: no point is seen by {options.coverage:.0%} of the cameras; lower "
                "config.model.coverage"
            )
        box = _box_around(common, box)
    # The grid: what can be learnt in it, and how fast.
    space = _space(options, options.coarse.stride, box, options.coarse.voxels)
    points = _points(box, space.shape)
    mask, seen = visibility.learnable(cameras, points, space.shape, near, far, options.least_cameras)
    base = _state(options, space, mask, options.coarse.alpha)
    rate = np.maximum(seen / seen.max(), 1e-6)[base["rows"] >= 0][:, None].astype(np.float32)
    return Variables(_coarse_params(base["rows"]), CoarseState(**base, learning_rate=rate))


def _start_unbounded(options: Options, setting: Setting, rng: jax.Array) -> Variables:
    """A grid of an unbounded scene, of the coarse stage where there is one.

    The inner cube lies around the origin, which is what the cameras look at, and reaches to the outermost camera's
    coordinate times `inner`; the few cameras that are far from all others do not count. (DVGO v2's lies around the
    cameras, which assumes that they are all around: an arc of cameras would have its subject outside.) Voxels
    within `near` of a camera are masked, which keeps floaters from it; v2 has a loss for that. All voxels learn at
    one rate, as v2's.
    """
    cameras, coarse = setting.cameras, options.coarse_steps > 0
    radius = options.inner * max(float(reach(cameras.pose[:, :, 3])), 1e-6)
    box = np.array([[-radius] * 3, [radius] * 3], np.float32)
    stage, voxels = (options.coarse, options.coarse.voxels) if coarse else (options.fine, _first_voxels(options))
    space = _space(options, stage.stride, box, voxels)
    # Vertices of the contracted grid, back in the world.
    points = radius * expand((voxel_grid.vertices(space.shape) * 2 - 1) * (1 + options.shell), options.shell)
    mask, _ = visibility.learnable(cameras, points, space.shape, setting.near, np.inf, options.least_cameras)
    base = _state(options, space, mask, stage.alpha)
    if not coarse:
        return Variables(_fine_params(options, base["rows"], rng), FineState(**base))
    params = _coarse_params(base["rows"])
    return Variables(params, CoarseState(**base, learning_rate=np.ones_like(params.density)))


def _fine(options: Options, variables: Variables, rng: jax.Array) -> Variables:
    """The first fine grid: in the box of what the coarse grid found opaque, its free space masked.

    An unbounded scene's keeps the inner cube.
    """
    coarse = Grid.of(options, variables)
    state, opacity = variables.model_state, np.asarray(coarse.opacity())
    found = opacity > options.min_opacity
    if not found.any():
        raise UserError(
            "the coarse stage found nothing: no voxel is opaque; lengthen config.model.coarse_steps or config.steps, "
            "or check the poses and bounds"
        )
    # The box, a little wider than what was found.
    box = state.box
    if not options.shell:
        box = _box_around(found, box)
        box = box.mean(0) + (box - box.mean(0)) * BOX_SCALE
    space = _space(options, options.fine.stride, box, _first_voxels(options))
    # What is not known to be free: a vertex counts if a coarse one around it is opaque.
    where, inside = _places(state, box, space.shape)
    opaque = state.mask & np.asarray(voxel_grid.dilate(jnp.asarray(opacity)) >= options.min_opacity)
    mask = inside & np.asarray(voxel_grid.nearest(jnp.asarray(opaque), where))
    base = _state(options, space, mask.reshape(space.shape), options.fine.alpha)
    fine = Variables(_fine_params(options, base["rows"], rng), FineState(**base))
    if options.inherit:
        fine = fine.replace(params=fine.params.replace(density=_inherited(options, coarse, fine)))
    return fine


def _inherited(options: Options, coarse: Grid, fine: Variables) -> np.ndarray:
    """Raw density [v, 1] that makes the fine grid as thick as the coarse one, where that is more than at its start."""
    target, state = Grid.of(options, fine), fine.model_state
    per_length = lambda grid: grid.interval * grid.options.stride / grid.space.step
    raw = coarse.raw_density + coarse.state.shift
    where = _places(coarse.state, state.box, state.mask.shape)[0][state.rows.ravel() >= 0]
    activated = jax.nn.softplus(raw)
    thickness = jax.jit(voxel_grid.interpolate_sparse)(activated, jnp.asarray(coarse.state.rows), where)
    wanted = thickness * per_length(coarse) / per_length(target)
    raw = jnp.log(jnp.expm1(jnp.clip(wanted, 1e-6, MOST_INHERITED)))
    return np.asarray(jnp.maximum(raw - state.shift, 0), np.float32)


def _double(options: Options, variables: Variables) -> Variables:
    """Twice the voxels, by interpolation; what is free by now is masked; the activation's shift goes down by `decay`.

    DVGO's decay of 1 divides all thin densities by e, and the picture gets worse until they are learnt anew: worth it
    in tens of thousands of steps, since it frees space, and too dear in a few thousand.
    """
    grid, params, state = Grid.of(options, variables), variables.params, variables.model_state
    space = _space(options, options.fine.stride, state.box, 2 * float(np.prod(state.mask.shape)))
    # What is free by the interpolated density, in addition to what was known to be.
    where, _ = _places(state, state.box, space.shape)
    interpolate = jax.jit(voxel_grid.interpolate_sparse)
    density = np.asarray(interpolate(params.density, state.rows, where)).reshape(space.shape)
    interval = (options.fine.voxels / np.prod(space.shape)) ** (1 / 3)
    live = np.asarray(voxel_grid.dilate(grid.activate(density, interval))) > options.fine.threshold
    mask = live & np.asarray(voxel_grid.nearest(jnp.asarray(state.mask), where)).reshape(space.shape)
    base = _state(options, space, mask, 0.5) | {"shift": state.shift - np.float32(options.decay)}
    # The values at the vertices that are left.
    kept = where[base["rows"].ravel() >= 0]
    tables = {name: interpolate(getattr(params, name), state.rows, kept) for name in ("density", "features")}
    return Variables(params.replace(**tables), FineState(**base))


def _tighten(options: Options, variables: Variables) -> Variables:
    """Masks what has become free; no shape changes, so the optimiser goes on."""
    grid, state = Grid.of(options, variables), variables.model_state
    mask = state.mask & (np.asarray(voxel_grid.dilate(grid.opacity())) > grid.options.threshold)
    if not mask.any():
        raise UserError(NOTHING_LEFT)
    cells = np.asarray(voxel_grid.coarsen(jnp.asarray(mask), grid.space.reach))
    return variables.replace(model_state=state.replace(mask=mask, cells=cells))


def _space(options: Options, stride: float, box: np.ndarray, voxels: float) -> Space:
    """A grid of about `voxels` in a box, or in all of space around it."""
    side = max(4, round(voxels ** (1 / 3)))
    shape = (side,) * 3 if options.shell else voxel_grid.shape_of(box, voxels)
    return place(options.shell, stride, box, shape)


def _first_voxels(options: Options) -> float:
    """Of the fine grid before it has doubled."""
    return options.fine.voxels / 2 ** len(options.grow_at)


def _state(options: Options, space: Space, mask: np.ndarray, alpha: float) -> dict[str, np.ndarray | None]:
    """The fields of `FineState` for a new grid, whose samples start with an opacity of `alpha`.

    Raises:
      UserError: nothing is in the mask.
    """
    if not mask.any():
        raise UserError(NOTHING_LEFT)
    rows = voxel_grid.number_rows(mask)
    return {
        "box": np.asarray(space.box, np.float32),
        "mask": mask,
        "cells": np.asarray(voxel_grid.coarsen(jnp.asarray(mask), space.reach)),
        "rows": rows,
        "shift": np.float32(math.log(1 / (1 - alpha) - 1)),
        "left_out": np.zeros(4, np.float32),
        "unmet": np.float32(0),
        "following": _following(rows) if any(options.total_variation) else None,
    }


def _following(rows: np.ndarray) -> np.ndarray:
    """[v, 3] the row next to each along x, y and z, or itself where there is none."""
    padded = np.pad(rows, ((0, 1),) * 3, constant_values=-1)
    nexts = [padded[1:, :-1, :-1], padded[:-1, 1:, :-1], padded[:-1, :-1, 1:]]
    return np.stack([np.where(n >= 0, n, rows)[rows >= 0] for n in nexts], -1)


def _coarse_params(rows: np.ndarray) -> Params:
    v = int(rows.max()) + 1
    return CoarseParams(np.zeros((v, 1), np.float32), np.zeros((v, 3), np.float32))


def _fine_params(options: Options, rows: np.ndarray, rng: jax.Array) -> Params:
    v = int(rows.max()) + 1
    sample = jnp.zeros((1, options.channels)), jnp.zeros((1, options.widths[0]))
    network = colour_network(options).init(rng, *sample)
    features = np.zeros((v, options.channels), np.float32)
    return FineParams(np.zeros((v, 1), np.float32), features, jax.device_get(network["params"]))


def _box_around(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The box [2, 3] around the vertices in `mask` of a grid in `box`, half a voxel wider but not beyond `box`."""
    where, last = np.argwhere(mask), np.array(mask.shape) - 1
    fractions = np.clip(np.stack([where.min(0) - 0.5, where.max(0) + 0.5]), 0, last) / last
    return (box[0] + fractions * (box[1] - box[0])).astype(np.float32)


def _points(box: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    return (box[0] + voxel_grid.vertices(shape) * (box[1] - box[0])).astype(np.float32)


def _places(state: State, box: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of a grid of `shape` in `box` in the coordinates of `state`'s grid [k, 3], and whether they are inside.

    Contracted grids keep their cube, so that they may be taken for boxes here.
    """
    own = state.box
    fractions = (_points(box, shape) - own[0]) / (own[1] - own[0])
    inside = ((fractions > -1e-5) & (fractions < 1 + 1e-5)).all(-1)
    return fractions * (np.array(state.mask.shape) - 1), inside
