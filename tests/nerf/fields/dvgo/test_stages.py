"""How grids come about: in a box and in all of space; the fine grid, doubling, free space."""

import jax
import numpy as np
import pytest

from jaxhw.errors import UserError
from jaxhw.nerf.fields.dvgo import stages
from jaxhw.nerf.fields.dvgo.grid import CoarseParams, FineParams
from jaxhw.nerf.fields.dvgo.space import Contracted
from jaxhw.nerf.networks import voxel_grid
from jaxhw.nerf.networks.contraction import expand
from jaxhw.state import Variables
from tests.nerf.fields.dvgo.made import COARSE, FINE, field, grid, grown, ring, started, with_density


def points_of(state):
    """[v, 3] where the vertices with a row lie in the world."""
    return stages._points(state.box, state.mask.shape)[state.rows.ravel() >= 0]


def contracted(state):
    """The contracted grid's vertices in units of its half edge, [v, 3]: what is outside 1 is the shell."""
    return 1.2 * (2 * voxel_grid.vertices(state.mask.shape) - 1)[state.rows.ravel() >= 0]


def fine_of(f):
    """The first fine grid of a coarse one that is opaque everywhere."""
    variables = started(f)
    params = variables.params
    return grown(f, variables.replace(params=params.replace(density=params.density + 30)), "fine")


def test_density_starts_low():
    """A voxel's length of the first grid is opaque to alpha, exactly."""
    f = field()
    variables = started(f)
    opacity, rows = np.asarray(grid(f, variables).opacity()), variables.model_state.rows
    ratio = (COARSE.voxels / np.prod(rows.shape)) ** (1 / 3)
    np.testing.assert_allclose(opacity[rows >= 0], 1 - (1 - 1e-4) ** ratio, rtol=1e-3)
    assert (opacity[rows < 0] == 0).all()


def test_the_fine_grid_lies_around_what_is_opaque():
    f = field()
    variables = started(f)
    points = points_of(variables.model_state)
    ball = np.linalg.norm(points - [0.2, 0, 0], axis=1) < 0.45
    fine = grown(f, with_density(variables, np.where(ball, 20.0, -20.0)[:, None]), "fine")
    new = fine.model_state
    voxel = 2 / (variables.model_state.mask.shape[0] - 1)
    assert (new.box[0] < points[ball].min(0)).all() and (new.box[1] > points[ball].max(0)).all()
    np.testing.assert_allclose(new.box[1] - new.box[0], (np.ptp(points[ball], 0) + voxel) * 1.05, rtol=1e-4)
    inside = np.linalg.norm(stages._points(new.box, new.mask.shape) - [0.2, 0, 0], axis=1)
    mask = new.mask.ravel()
    assert mask[inside < 0.4].all() and not mask[inside > 0.45 + 2.7 * voxel].any()
    assert abs(np.prod(new.mask.shape) - FINE.voxels / 2) < 0.4 * FINE.voxels / 2
    assert fine.params.features.shape == (new.rows.max() + 1, 4)
    np.testing.assert_allclose(grid(f, fine).opacity()[new.rows >= 0].max(), 0.01 * (2 ** (1 / 3)), rtol=0.2)


def test_inherited_density_is_as_thick_as_the_coarse_grids():
    """A uniform medium has the same optical thickness per length; free space starts at the fine grid's alpha."""
    f = field(inherit=True)
    coarse = with_density(started(f), 9.0)
    fine = grown(f, coarse, "fine")

    def per_length(variables, stride):
        g = grid(f, variables)
        return g.interval * np.log1p(np.exp(g.raw_density + g.state.shift)) / (g.space.step / stride)

    inner = (np.abs(points_of(fine.model_state)) < 0.5).all(1)
    wanted = float(per_length(coarse, COARSE.stride)[0, 0])
    np.testing.assert_allclose(per_length(fine, FINE.stride)[inner], wanted, rtol=1e-3)
    assert fine.params.density.min() >= 0


def test_an_empty_coarse_grid_is_one_line():
    f = field()
    with pytest.raises(UserError, match="the coarse stage found nothing"):
        grown(f, started(f), "fine")


@pytest.mark.parametrize("event", ["double", "tighten"])
def test_a_fine_grid_that_became_free_space_is_one_line(event):
    f = field()
    with pytest.raises(UserError, match="no voxel is left to learn"):
        grown(f, with_density(fine_of(f), -20.0), event)


def test_the_colour_network_is_drawn_from_the_run_s_key():
    """The same in every process, another for another seed."""
    f = field()
    variables = with_density(started(f), 20.0)
    draw = lambda seed: stages.grow(f.options, variables, "fine", jax.random.key(seed)).params.colour
    jax.tree.map(np.testing.assert_array_equal, draw(0), draw(0))
    assert not np.array_equal(draw(0)["kernel"], draw(1)["kernel"])
    start = field(unbounded=True, coarse_steps=0).start
    assert not np.array_equal(*(start(jax.random.key(i)).params.colour["kernel"] for i in (0, 1)))


def test_doubling_keeps_the_field():
    """A density that is linear in space is the same function on twice the voxels; the shift goes down by 1."""
    f = field()
    variables = fine_of(f)
    state, slope = variables.model_state, np.array([[1.0, -2.0, 0.5]]).T
    doubled = grown(f, with_density(variables, points_of(state) @ slope + 6), "double")
    new = doubled.model_state
    assert 1.5 < np.prod(new.mask.shape) / np.prod(state.mask.shape) < 2.3
    inner = (np.abs(points_of(new)) < 0.6).all(1)
    assert inner.sum() > 50
    np.testing.assert_allclose(doubled.params.density[inner], points_of(new)[inner] @ slope + 6, atol=1e-4)
    assert new.shift == pytest.approx(float(state.shift) - 1)
    jax.tree.map(np.testing.assert_array_equal, doubled.params.colour, variables.params.colour)
    assert len(doubled.params.features) == new.rows.max() + 1


def test_tightening_masks_what_became_free_and_changes_no_shape():
    f = field()
    variables = fine_of(f)
    points = points_of(variables.model_state)
    variables = with_density(variables, np.where(points[:, :1] > 0, 5.0, -30.0))
    tightened, state = grown(f, variables, "tighten"), variables.model_state
    jax.tree.map(np.testing.assert_array_equal, tightened.params, variables.params)
    assert jax.tree.map(np.shape, tightened) == jax.tree.map(np.shape, variables)
    where = stages._points(state.box, state.mask.shape)[:, 0].reshape(state.mask.shape)
    voxel = np.diff(where[:, 0, 0]).max()
    np.testing.assert_array_equal(
        tightened.model_state.mask, state.mask & (where > -voxel * 0.999 * (where <= 0)) & (where > -voxel)
    )


def test_a_single_opaque_vertex_has_a_box():
    f = field()
    variables = started(f)
    state = variables.model_state
    density = np.full_like(variables.params.density, -20.0)
    density[state.rows[5, 5, 5]] = 20.0
    fine = grown(f, with_density(variables, density), "fine")
    edges = fine.model_state.box[1] - fine.model_state.box[0]
    np.testing.assert_allclose(edges, 1.05 * 2 / (state.mask.shape[0] - 1), rtol=1e-4)
    assert fine.model_state.mask.any() and np.isfinite(fine.params.density).all()


def test_the_plan_of_a_run():
    f = field(steps=400, coarse_steps=100, grow_at=(50, 150), tighten_every=100)
    plan = [(50, "tighten"), (100, "fine"), (150, "double"), (250, "double"), (350, "tighten")]
    assert stages.plan(f.options, 400) == plan and f.stages == (50, 100, 150, 250, 350)
    assert field(coarse_steps=0, unbounded=True, grow_at=(), steps=40).stages == ()
    assert field(steps=np.inf).stages == ()  # only rendered


def test_stages_are_shares_of_the_run():
    """The paper's 5,000 coarse steps of 25,000; a run of another length needs no other option."""
    shares = {"coarse_steps": 0.2, "grow_at": (0.04, 0.08, 0.12, 0.16), "tighten_every": 0.0}
    assert field(steps=25000, **shares).stages == (5000, 6000, 7000, 8000, 9000)
    assert field(steps=500, **shares).stages == (100, 120, 140, 160, 180)
    assert field(steps=20, **shares).stages == (4, 5, 6, 7, 8)  # not two at one step
    with pytest.raises(UserError, match=r"begin at steps 1, 2, 3, 4, 5, .* the run's 5: .* best to shares of the run"):
        field(steps=5, **shares)
    mixed = field(steps=1000, coarse_steps=0.1, grow_at=(50, 0.2), tighten_every=0.0)
    assert mixed.stages == (100, 150, 300)


@pytest.fixture(scope="module")
def unbounded():
    """(field, its coarse variables with a ball of radius 0.6 in the middle of the cube)."""
    f = field(unbounded=True, near=0.5, inherit=True, bounds=None)
    variables = started(f)
    ball = np.linalg.norm(contracted(variables.model_state), axis=1) < 0.6
    return f, with_density(variables, np.where(ball, 20.0, -20.0)[:, None])


def test_the_inner_cube_lies_around_the_origin_and_keeps_away_from_cameras(unbounded):
    _, variables = unbounded
    state = variables.model_state
    np.testing.assert_allclose(state.box, [[-3.0] * 3, [3.0] * 3], rtol=1e-6)
    points = 3 * expand(contracted(state.replace(rows=np.where(state.mask, 1, -1))), 0.2)
    assert (np.linalg.norm(points[:, None] - ring().pose[:, :, 3], axis=-1) >= 0.5).all()
    arc = ring()[np.arange(3)]
    half = started(field(arc, unbounded=True, near=0.5, bounds=None, inner=0.5)).model_state
    np.testing.assert_allclose(half.box[1], 0.5 * np.abs(arc.pose[:, :, 3]).max(), rtol=1e-6)


def test_a_camera_far_from_all_others_does_not_widen_the_inner_cube():
    cameras = ring()
    pose = np.array(cameras.pose)
    pose[4, :, 3] *= 10
    state = started(field(cameras.replace(pose=pose), unbounded=True, near=0.5, bounds=None)).model_state
    np.testing.assert_allclose(state.box, [[-3.0] * 3, [3.0] * 3], rtol=1e-6)


def test_the_coarse_stage_of_an_unbounded_scene_has_plain_colours_and_all_voxels_learn_alike(unbounded):
    f, variables = unbounded
    assert isinstance(variables.params, CoarseParams) and (variables.model_state.learning_rate == 1).all()
    space = grid(f, variables).space
    assert isinstance(space, Contracted) and space.shape == (10, 10, 10)


def test_the_fine_grid_of_an_unbounded_scene_keeps_the_cube_and_inherits(unbounded):
    f, variables = unbounded
    fine = grown(f, variables, "fine")
    new = fine.model_state
    np.testing.assert_array_equal(new.box, variables.model_state.box)
    assert new.mask.shape == (13, 13, 13) and isinstance(fine.params, FineParams)
    full = np.linalg.norm(1.2 * (2 * voxel_grid.vertices((13, 13, 13)) - 1), axis=1).reshape(13, 13, 13)
    assert new.mask[full < 0.5].all() and not new.mask[full > 1.35].any()
    middle = np.linalg.norm(contracted(new), axis=1) < 0.3
    assert (fine.params.density[middle] > 1).all() and fine.params.density.min() >= 0


def test_doubling_keeps_an_unbounded_field():
    f = field(unbounded=True, near=0.5, inherit=True, bounds=None, decay=0.0)
    variables = grown(f, with_density(started(f), 20.0), "fine")
    state, slope = variables.model_state, np.array([[1.0, -2.0, 0.5]]).T
    doubled: Variables = grown(f, with_density(variables, contracted(state) @ slope + 6), "double")
    new = doubled.model_state
    assert new.mask.shape == (16, 16, 16) and new.shift == state.shift
    inner = np.linalg.norm(contracted(new), axis=1) < 0.4
    assert inner.sum() > 30
    np.testing.assert_allclose(doubled.params.density[inner], contracted(new)[inner] @ slope + 6, atol=1e-4)
