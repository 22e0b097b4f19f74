"""Half a picture finds its pose and its row, and the other half is scored: on pictures that the field itself shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhw import mesh as meshes
from jaxhw.nerf.cameras import alignment
from jaxhw.nerf.fields.field import Setting
from jaxhw.nerf.rendering.renderer import BACKGROUNDS, Renderer
from jaxhw.nerf.results import halves, quality
from jaxhw.nerf.scenes.pictures import Pictures
from jaxhw.state import Variables
from tests.nerf.fields.dvgo.made import ring
from tests.nerf.fields.fog import Options
from tests.nerf.fields.tinted import Tinted

TINT = np.float32([[0.8, -0.4, 0.2]])


@pytest.fixture(scope="module")
def shown():
    """(field, its variables, a renderer, cameras, pictures of them with a tint that no training picture has)."""
    cameras = ring(n=4, size=24)
    field = Tinted.create(Options(samples=16, width=24), Setting(cameras, 1.5, 4.5))
    start = field.start(jax.random.key(3))
    params = start.params | {"fog": jax.tree.map(lambda a: 1.5 * a, start.params["fog"])}
    variables = Variables(params, {})
    renderer = Renderer(field.render, meshes.make_mesh(1), BACKGROUNDS["white"], field.chunk)
    tinted = variables.replace(params=params | {"tint": jnp.tile(TINT, (4, 1))})
    views = [renderer(tinted, cameras[i]).colour for i in range(4)]
    return field, variables, renderer, cameras, Pictures.from_arrays([np.uint8(255 * view + 0.5) for view in views])


def test_a_pose_and_a_row_are_found_by_one_program_for_all_pictures(shown):
    field, variables, renderer, cameras, pictures = shown
    fit = halves.Halves(field, renderer, 4, learning_rate=3e-3, step=10)
    away = cameras.replace(pose=alignment.perturbed(cameras.pose, 1.5, 0.01, 0))
    for i in range(3):
        truth = pictures[i] / 255
        before = quality.psnr(renderer(variables, away[i]).colour[:, 12:], truth[:, 12:])
        found = fit(variables, away[i], pictures, i, seed=0)
        assert found > before + 4, (found, before)
        assert found == fit(variables, away[i], pictures, i, seed=0)
    assert fit._fit._cache_size() == 1


def test_eight_devices_fit_as_one(shown):
    field, variables, renderer, cameras, pictures = shown
    eight = Renderer(field.render, meshes.make_mesh(8), BACKGROUNDS["white"], field.chunk)
    one, many = (halves.Halves(field, r, 4, 1e-3, 10)(variables, cameras[0], pictures, 0, 0) for r in (renderer, eight))
    assert many == pytest.approx(one, abs=0.05)


def test_the_other_half_and_what_a_mask_leaves_out_are_not_looked_at(shown):
    field, variables, renderer, cameras, pictures = shown
    fit = halves.Halves(field, renderer, 4, 1e-3, 10)
    views = np.stack([pictures[i] for i in range(4)])
    mask = np.ones((24, 24), bool)
    mask[:5] = False
    spoilt = views.copy()
    spoilt[:, :5] = 0
    plain = fit(variables, cameras[0], Pictures.from_arrays(views).masked([mask] * 4), 0, 0)
    assert fit(variables, cameras[0], Pictures.from_arrays(spoilt).masked([mask] * 4), 0, 0) == plain
    left = np.arange(24)[None] < 12
    told = fit(variables, cameras[0], Pictures.from_arrays(views).masked([np.broadcast_to(left, (24, 24))] * 4), 0, 0)
    assert told == "not run: its mask leaves nothing of one half"


def test_rows_are_appended_at_the_end():
    params = {"tint": jnp.array([[1.0, 2], [3, 4]]), "deep": {"a": jnp.ones((2, 1))}, "tinted": jnp.ones(3)}
    rows = halves.mean_rows(params, ("tint", "deep"))
    assert set(rows) == {"tint", "deep/a"}
    longer = halves.with_rows(params, rows)
    np.testing.assert_array_equal(longer["tint"], [[1, 2], [3, 4], [2, 3]])
    assert longer["deep"]["a"].shape == (3, 1) and longer["tinted"].shape == (3,)
