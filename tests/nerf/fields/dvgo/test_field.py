"""DVGO's rendering against a plain sum over every sample; its stages; that a full bucket only leaves rays out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.nerf.cameras.cameras import Cameras
from jaxhw.nerf.fields.dvgo import field as dvgo
from jaxhw.nerf.fields.dvgo import stages
from jaxhw.nerf.fields.dvgo.space import Rays
from jaxhw.nerf.networks import voxel_grid as grids
from jaxhw.nerf.rendering import losses

RAYS = 64
COARSE = dvgo.Phase(10**3, 1.0, 1e-4, 1e-7, 0.01, 0.1, blocks=8.0, samples=40.0, shaded=40.0)
FINE = dvgo.Phase(16**3, 0.5, 1e-2, 1e-4, 0.001, 0.01, blocks=12.0, samples=60.0, shaded=60.0)


def field(**changes):
    values = {"coarse": COARSE, "fine": FINE, "start": None, "near": 1.0, "far": 6.0, "steps": 100, "coarse_steps": 40}
    values |= {"grow_at": (10,), "tighten_every": 0, "channels": 4, "widths": (8, 8), "longest": 96}
    return dvgo.DVGO(**values | changes)


def ring(n=12, radius=3.0, height=1.0, size=40):
    """Cameras on a circle that look at the origin, z up."""
    angle = np.arange(n) * 2 * np.pi / n
    eyes = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(n, height)], -1)
    forward = -eyes / np.linalg.norm(eyes, axis=1, keepdims=True)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    pose = np.stack([right, np.cross(forward, right), forward, eyes], -1).astype(np.float32)
    flat = np.ones((n, 2), np.float32)
    return Cameras(pose, flat * size, flat * size / 2, np.zeros((n, 4), np.float32), size, size)


@dataclasses.dataclass
class Setting:
    cameras: Cameras
    bounds: np.ndarray | None
    split: dict


def started(field, bounds=((-1.0, -1, -1), (1, 1, 1))):
    cameras = ring()
    bounds = None if bounds is None else np.array(bounds, np.float32)
    return stages.with_start(field, Setting(cameras, bounds, {"train": np.arange(12)}), 0.0, 1.0)


@pytest.fixture(scope="module")
def rays():
    rng = np.random.default_rng(0)
    origins = np.asarray(ring().pose[rng.integers(12, size=RAYS), :, 3])
    directions = -origins + rng.normal(size=(RAYS, 3)) * 0.5
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return jnp.asarray(origins, jnp.float32), jnp.asarray(directions, jnp.float32)


@pytest.fixture(scope="module", params=["coarse", "fine", "unbounded"])
def filled(request):
    """A field in a phase, with random densities and colours."""
    rng = np.random.default_rng(1)
    f = started(field(shell=0.2, coarse_steps=0) if request.param == "unbounded" else field())
    params, state = f.start
    state = dict(state)
    if request.param == "fine":
        params = {"density": params["density"] + 20.0, "features": params["features"]}
        params, state = stages.grow(f, params, state, "fine")
    mask = state["mask"] & (rng.random(state["mask"].shape) < 0.3)
    space = f.space(params, state)
    state |= {"mask": mask, "cells": np.asarray(grids.coarsen(jnp.asarray(mask), space.reach))}
    noise = lambda a, scale: (rng.normal(size=a.shape) * scale).astype(np.float32)
    # Between about 0.05 and 1 of opacity a sample.
    params = {**params, "density": noise(params["density"], 1.5) - float(state["shift"]) - 1.0}
    if "rate" in state:
        params["density"] /= state["rate"]
    params["features"] = noise(params["features"], 2.0)
    return f, *jax.tree.map(jnp.asarray, (params, state))


def plain(f, params, state, rays, offset):
    """(colours, depths, opacities) with every sample of every ray, none left out, on a white background."""
    space, (origins, directions) = f.space(params, state), rays
    rays = Rays.through(space, origins, directions, f.near, f.far, offset)
    k = jnp.broadcast_to(jnp.arange(space.count) * 1.0, (RAYS, space.count))
    t, u, inside = rays.at(space, k)
    index, weights = grids.corners(u.reshape(-1, 3), space.shape)
    full = lambda table: table[jnp.maximum(state["rows"].ravel()[jnp.stack([index, index + 1], -1)], 0)]
    read = lambda table: (full(table) * weights[..., None]).sum((1, 2))
    density = params["density"] * state["rate"] if "rate" in state else params["density"]
    each = lambda a: jnp.repeat(a, space.count, 0)
    length = space.lengths(each(origins), each(directions), each(rays.start), (k + offset[:, None]).ravel())
    phase = f.phase(params)
    interval = phase.stride * (phase.voxels / np.prod(space.shape)) ** (1 / 3) * length
    alpha = 1 - (1 + jnp.exp(read(density)[:, 0] + state["shift"])) ** -interval
    alpha = jnp.where(grids.lookup(state["mask"], u) & inside, alpha.reshape(k.shape), 0)
    alpha = jnp.where(alpha > phase.threshold, alpha, 0)
    through = jnp.cumprod(jnp.pad(1 - alpha, ((0, 0), (1, 0)), constant_values=1), 1)
    w = through[:, :-1] * alpha
    features = read(params["features"])
    rgb = jax.nn.sigmoid(features)
    if "colour" in params:
        views = f.views(params, directions)
        rgb = f.network.apply({"params": params["colour"]}, features, each(views), jnp.arange(k.size))
    rgb = (w[..., None] * rgb.reshape(*k.shape, 3)).sum(1) + through[:, -1:]
    return rgb, (w * t).sum(1) / jnp.maximum(w.sum(1), 1e-8), w.sum(1)


def test_rendering_is_the_plain_sum(filled, rays):
    f, params, state = filled
    wanted = plain(f, params, state, rays, jnp.full(RAYS, 0.5))
    assert 0.1 < wanted[2].mean() < 0.95
    rgb, depth, opacity = jax.jit(f.render)(params, state, *rays, jnp.ones(3))
    np.testing.assert_allclose(rgb, wanted[0], atol=2e-3)  # what lies behind 0.1 or less of a per cent is not seen
    np.testing.assert_allclose(opacity, wanted[2], atol=2e-3)
    np.testing.assert_allclose(depth, wanted[1], atol=2e-2)


def test_the_training_pass_is_the_plain_sum(filled, rays):
    f, params, state = filled
    offset = jax.random.uniform(jax.random.key(0), (RAYS,))
    colours = jax.random.uniform(jax.random.key(1), (RAYS, 3))
    rgb, _, opacity = plain(f, params, state, rays, offset)
    sums = jax.jit(f._sums)(params, state, *rays, colours, jnp.ones((RAYS, 3)), offset)
    assert sums["overflow"] == 0 and sums["samples"] >= sums["shaded"] > 100
    coarse = "colour" not in params
    counted = jnp.ones(RAYS, bool) if coarse else opacity > 0
    assert abs(int(sums["counted"]) - int(counted.sum())) <= (0 if coarse else 3)
    wanted = (counted * ((rgb - colours) ** 2).sum(-1)).sum()
    np.testing.assert_allclose(sums["error"], wanted, rtol=2e-2)
    np.testing.assert_allclose(
        sums["entropy"], (counted * losses.background_entropy(1 - opacity)).sum(), rtol=2e-2, atol=1e-2
    )


def test_gradients_are_those_of_the_plain_sum(filled, rays):
    f, params, state = filled
    offset, target = jnp.full(RAYS, 0.5), jnp.zeros((RAYS, 3))
    ours = lambda p: f._sums(p, state, *rays, target, jnp.ones((RAYS, 3)), offset)["error"]
    everywhere = lambda p: (plain(f, p, state, rays, offset)[0] ** 2).sum()
    found, wanted = jax.jit(jax.grad(ours))(params), jax.jit(jax.grad(everywhere))(params)
    for name in ("density", "features"):
        scale = float(jnp.abs(wanted[name]).max())
        assert scale > 0
        # Rays that miss everything are not counted by the fine phase; they have no gradient either.
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-2 * scale)


def test_a_full_bucket_leaves_whole_rays_out(filled, rays):
    """With room for half of the samples, the sums are those of the first rays alone."""
    f, params, state = filled
    white, offset = jnp.ones((RAYS, 3)), jnp.full(RAYS, 0.5)
    name = "fine" if "colour" in params else "coarse"
    sums = f._sums(params, state, *rays, white * 0.5, white, offset)
    half = dataclasses.replace(f.phase(params), samples=float(sums["samples"]) / RAYS / 2)
    few = dataclasses.replace(f, **{name: half})._sums(params, state, *rays, white * 0.5, white, offset)
    complete = RAYS - int(few["overflow"])
    assert 0 < complete < RAYS
    first = [a[:complete] for a in (*rays, white * 0.5, white, offset)]
    roomy = dataclasses.replace(f.phase(params), blocks=40.0, samples=200.0, shaded=200.0)
    alone = dataclasses.replace(f, **{name: roomy})._sums(params, state, *first)
    for key in ("counted", "error", "entropy", "per_point"):
        np.testing.assert_allclose(few[key], alone[key], rtol=1e-4)


def test_eight_devices_have_the_loss_and_gradient_of_one(filled, rays):
    f, params, state = filled
    roomy = dataclasses.replace(f.phase(params), blocks=40.0, samples=200.0, shaded=200.0)
    f = dataclasses.replace(f, **{"fine" if "colour" in params else "coarse": roomy})
    white = jnp.ones((RAYS, 3))

    def value(mesh):
        loss = lambda p: f.loss(p, state, rays, white * 0.3, white, jax.random.key(0), mesh)[0]
        return jax.jit(jax.value_and_grad(loss))(params)

    one, eight = value(meshes.make_mesh(1)), value(meshes.make_mesh(8))
    np.testing.assert_allclose(one[0], eight[0], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(a).max() + 1e-9)),
        *map(lambda x: x[1], (one, eight)),
    )


def test_density_starts_low():
    """A voxel's length of the first grid is opaque to alpha, exactly."""
    f = started(field())
    params, state = f.start
    opacity = np.asarray(stages._opacity(f, params, state))
    shape = state["mask"].shape
    ratio = (COARSE.voxels / np.prod(shape)) ** (1 / 3)
    np.testing.assert_allclose(opacity[state["rows"] >= 0], 1 - (1 - 1e-4) ** ratio, rtol=1e-3)
    assert (opacity[state["rows"] < 0] == 0).all()


def test_voxels_near_cameras_and_seen_by_few_are_masked():
    """The ring's cameras stand at a distance of 3.16; with near = 2.5 the corners of the box are too near."""
    f = started(field(near=2.5))
    (params, state), shape = f.start, f.start[1]["mask"].shape
    points = stages._points(state["box"], shape)
    distance = np.linalg.norm(points[:, None] - ring().pose[:, :, 3], axis=-1)
    mask = state["mask"].ravel()
    assert not mask[(distance < 2.5).any(1)].any() and mask.any()
    seen = stages.views(ring(), points, 2.5, 6.0)
    assert (seen[mask] >= 3).all() and mask[(seen >= 3) & (distance >= 2.5).all(1)].all()
    np.testing.assert_allclose(params["density"].shape, state["rate"].shape)
    np.testing.assert_allclose(state["rate"][:, 0], np.maximum(seen[state["rows"].ravel() >= 0] / seen.max(), 1e-6))


def test_views_counts_frusta():
    cameras = ring(n=2, height=0.0)  # at x = 3 and -3, 53 degrees wide
    points = np.array([[0, 0, 0], [0, 1.4, 0], [0, 1.6, 0], [2.9, 0, 0], [3.5, 0, 0], [-2, 0.6, 0]], np.float32)
    np.testing.assert_array_equal(stages.views(cameras, points, 0.5, 10.0), [2, 2, 0, 1, 1, 1])
    np.testing.assert_array_equal(stages.views(cameras, points[:1], 0.5, 2.0), [0])


def test_the_coarse_box_holds_all_frusta():
    f = started(field(), bounds=None)
    box = f.start[1]["box"]
    np.testing.assert_allclose(box, stages.frusta_box(ring(), 1.0, 6.0))
    assert (box[0, :2] < -3).all() and (box[1, :2] > 3).all()


def test_the_fine_grid_lies_around_what_is_opaque():
    f = started(field())
    params, state = f.start
    points = stages._points(state["box"], state["mask"].shape)[state["rows"].ravel() >= 0]
    ball = np.linalg.norm(points - [0.2, 0, 0], axis=1) < 0.45
    params = {**params, "density": np.where(ball, 20.0, -20.0)[:, None].astype(np.float32) / state["rate"]}
    fine, new = stages.grow(f, params, {**state, "step": np.int32(40)}, "fine")
    voxel = 2 / (state["mask"].shape[0] - 1)
    assert (new["box"][0] < points[ball].min(0)).all() and (new["box"][1] > points[ball].max(0)).all()
    np.testing.assert_allclose(new["box"][1] - new["box"][0], (np.ptp(points[ball], 0) + voxel) * 1.05, rtol=1e-4)
    inside = np.linalg.norm(stages._points(new["box"], new["mask"].shape) - [0.2, 0, 0], axis=1)
    mask = new["mask"].ravel()
    assert mask[inside < 0.4].all() and not mask[inside > 0.45 + 2.7 * voxel].any()
    assert abs(np.prod(new["mask"].shape) - FINE.voxels / 2) < 0.4 * FINE.voxels / 2
    assert new["step"] == 40 and fine["features"].shape == (new["rows"].max() + 1, 4)
    np.testing.assert_allclose(stages._opacity(f, fine, new)[new["rows"] >= 0].max(), 0.01 * (2 ** (1 / 3)), rtol=0.2)


def test_inherited_density_is_as_thick_as_the_coarse_grids():
    """A uniform medium has the same optical thickness per length; free space starts at the fine grid's alpha."""
    f = started(field(inherit=True))
    params, state = f.start
    fine, new = stages.grow(f, {**params, "density": (9.0 + 0 * params["density"]) / state["rate"]}, state, "fine")
    per_length = lambda p, s: f.interval(p, s) * np.log1p(np.exp(p["density"] * s.get("rate", 1) + s["shift"]))
    coarse = per_length({"density": 9.0 / state["rate"][:1]}, state) / (f.space(params, state).step / COARSE.stride)
    inner = (np.abs(stages._points(new["box"], new["mask"].shape)[new["rows"].ravel() >= 0]) < 0.5).all(1)
    found = per_length(fine, new)[inner] / (f.space(fine, new).step / FINE.stride)
    np.testing.assert_allclose(found, float(coarse[0, 0]), rtol=1e-3)
    assert fine["density"].min() >= 0


def test_an_empty_coarse_grid_is_one_line():
    f = started(field())
    with pytest.raises(UserError, match="the coarse stage found nothing"):
        stages.grow(f, *f.start, "fine")


def test_doubling_keeps_the_field():
    """A density that is linear in space is the same function on twice the voxels; the shift goes down by 1."""
    f = started(field())
    params, state = f.start
    params, state = stages.grow(f, {**params, "density": params["density"] + 30}, state, "fine")
    points = lambda s: stages._points(s["box"], s["mask"].shape)[s["rows"].ravel() >= 0]
    slope = np.array([[1.0, -2.0, 0.5]]).T
    params = {**params, "density": (points(state) @ slope + 6).astype(np.float32)}
    new_params, new = stages.grow(f, params, state, "double")
    assert 1.5 < np.prod(new["mask"].shape) / np.prod(state["mask"].shape) < 2.3
    inner = (np.abs(points(new)) < 0.6).all(1)
    assert inner.sum() > 50
    np.testing.assert_allclose(new_params["density"][inner], points(new)[inner] @ slope + 6, atol=1e-4)
    assert new["shift"] == pytest.approx(float(state["shift"]) - 1)
    assert new_params["colour"] is not None and len(new_params["features"]) == new["rows"].max() + 1


def test_tightening_masks_what_became_free_and_changes_no_shape():
    f = started(field())
    params, state = f.start
    params, state = stages.grow(f, {**params, "density": params["density"] + 30}, state, "fine")
    points = stages._points(state["box"], state["mask"].shape)[state["rows"].ravel() >= 0]
    params = {**params, "density": np.where(points[:, :1] > 0, 5.0, -30.0).astype(np.float32)}
    same, new = stages.grow(f, params, state, "tighten")
    jax.tree.map(np.testing.assert_array_equal, same, params)
    assert {k: np.shape(v) for k, v in new.items()} == {k: np.shape(v) for k, v in state.items()}
    where = stages._points(state["box"], state["mask"].shape)[:, 0].reshape(state["mask"].shape)
    voxel = np.diff(where[:, 0, 0]).max()
    np.testing.assert_array_equal(
        new["mask"], state["mask"] & (where > -voxel * 0.999 * (where <= 0)) & (where > -voxel)
    )


def test_the_plan_of_a_run():
    f = field(steps=400, coarse_steps=100, grow_at=(50, 150), tighten_every=100)
    assert stages.plan(f) == [(50, "tighten"), (100, "fine"), (150, "double"), (250, "double"), (350, "tighten")]
    assert f.stages == (50, 100, 150, 250, 350)
    assert stages.plan(field(coarse_steps=0, shell=0.2, grow_at=(), steps=40)) == []
