"""What is taken from the scene where an option is 0: where rays begin, the sizes of the buckets."""

import dataclasses

import numpy as np
import pytest

from jaxhw.nerf.fields.dvgo import automatic, grid
from jaxhw.nerf.fields.dvgo.field import DVGO
from jaxhw.nerf.fields.dvgo.options import Options
from jaxhw.nerf.fields.field import Setting
from tests.nerf.fields.dvgo.made import FINE, field, grown, ring, started, with_density, with_stage

DISTANCE = np.sqrt(10)  # of the ring's cameras from the middle; their reach is 3


def setting(near=0.05, near_from="guess", points=None, far=1000.0):
    points = np.zeros((0, 3), np.float32) if points is None else points
    return Setting(cameras=ring(), near=near, far=far, unbounded=True, near_from=near_from, points=points, steps=100)


def made(setting, **options):
    return DVGO.create(Options(**{"coarse_steps": 40, "grow_at": (10,)} | options), setting)


@pytest.mark.parametrize(
    ("near_from", "scenes", "option", "near"),
    [
        ("guess", 0.05, 0.0, 0.35 * DISTANCE),
        ("points", 0.7, 0.0, 0.7),
        ("points", 2.0, 0.0, 0.35 * DISTANCE),
        ("format", 2.0, 0.0, 2.0),
        ("format", 0.01, 0.0, 0.01),
        ("guess", 0.05, 0.5, 0.5 * DISTANCE),
        ("points", 0.7, 0.5, 0.5 * DISTANCE),
    ],
)
def test_rays_begin_where_the_scene_says_unless_it_only_guesses(near_from, scenes, option, near):
    """Points may bring it nearer and never take it farther."""
    f = made(setting(scenes, near_from), near=option)
    assert f.setting.near == pytest.approx(near)
    chosen = near_from != "format" and not option
    assert len(f.notes) == chosen and all(f"rays begin at {near:.3g}" in note for note in f.notes)


def test_the_line_says_by_what():
    points = np.zeros((1234, 3), np.float32)
    assert made(setting(0.7, "points", points)).notes == ("rays begin at 0.7, by the nearest of 1,234 points",)
    assert (
        made(setting(2.0, "points", points))
        .notes[0]
        .endswith("1.11, 0.35 times the cameras' distance from their subject")
    )


def test_the_coarse_stage_has_room_for_every_sample():
    stage = dataclasses.replace(FINE, blocks=0.0, samples=0.0, shaded=0.0)
    full = automatic.with_buckets(stage, 136, None)
    assert (full.blocks, full.samples, full.shaded) == (17, 136, 136)


def test_the_fine_stage_has_room_by_its_share_of_voxels():
    stage = dataclasses.replace(FINE, blocks=0.0, samples=0.0, shaded=0.0)
    some = automatic.with_buckets(stage, 272, 0.0855)  # fox: 60 samples in 16 blocks and 18 colours were needed
    assert 60 < some.samples < 90 and 16 < some.blocks < 24 and 18 < some.shaded < 50
    more = automatic.with_buckets(stage, 272, 0.1)
    assert more.samples > some.samples and more.blocks > some.blocks and more.shaded > some.shaded
    most = automatic.with_buckets(stage, 272, 0.9)
    assert most.samples == automatic.MOST * 272 and most.blocks <= 272 / 8
    assert automatic.with_buckets(FINE, 272, 0.5) == FINE
    assert automatic.with_buckets(dataclasses.replace(FINE, shaded=0.0), 272, 0.5).samples == FINE.samples


def test_buckets_follow_the_grid_and_a_full_one_is_told_with_its_size():
    f = field(unbounded=True, bounds=None, near=0.5)
    f = with_stage(f, "fine", blocks=0.0, samples=0.0, shaded=0.0)
    variables = grown(f, with_density(started(f), 20.0), "fine")
    sizes = grid.Grid.of(f.options, variables)
    live = (variables.model_state.rows >= 0).mean()
    assert sizes.options == automatic.with_buckets(f.options.fine, sizes.space.count, live)
    left_out = np.float32([0, 1, 0, 0])
    told = f.warning(variables.model_state.replace(left_out=left_out))
    assert told.endswith(f"raise config.model.fine.samples={sizes.options.samples:g}")
