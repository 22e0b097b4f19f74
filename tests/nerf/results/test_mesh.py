"""Meshes of the demo's solids by closed form: where the surface is, what is left out, its colours and texels."""

import dataclasses
import types

import numpy as np
import pytest
import trimesh

from jaxhw.errors import UserError
from jaxhw.nerf.results import mesh, texture
from tests.nerf import demo_surface

RESOLUTION = 64


@pytest.fixture(scope="module")
def run():
    return demo_surface.run()


@pytest.fixture(scope="module")
def made(run):
    return mesh.make(run, RESOLUTION)


def test_the_surface_is_the_solids(run, made):
    voxel = made.metadata["voxel"]
    assert voxel == pytest.approx(2.6 / RESOLUTION)
    at, _ = trimesh.sample.sample_surface(made, 20000, seed=0)
    assert np.abs(demo_surface.distance(at)).mean() < voxel / 2
    facing = (made.vertex_normals * demo_surface.normal(made.vertices)).sum(1)
    assert np.median(facing) > 0.95 and (facing > 0).mean() > 0.97


def test_what_no_camera_sees_is_left_out(made):
    """The plate has no underside, where all cameras are above it; but all of it has a top."""
    below = (made.vertices[:, 2] < -0.54) & (np.linalg.norm(made.vertices[:, :2], axis=1) < 1.1)
    assert not below.any() and (made.vertices[:, 2] > 0.47).any()


def test_colours_are_those_of_the_surface(run, made):
    coloured = mesh.coloured(run, made.copy())
    found = coloured.visual.vertex_colors[:, :3] / 255
    np.testing.assert_allclose(found, demo_surface.colour(made.vertices), atol=0.05)


def test_decimation_and_parts(run):
    few = mesh.make(run, RESOLUTION, faces=500)
    assert len(few.faces) <= 500 and few.metadata["voxel"] > 0
    at, _ = trimesh.sample.sample_surface(few, 20000, seed=0)
    assert np.abs(demo_surface.distance(at)).mean() < 2.6 / RESOLUTION
    ball = trimesh.creation.icosphere(4)
    dust = trimesh.creation.icosphere(0).apply_translation([5, 0, 0])
    assert len(mesh._components(ball + dust).faces) == len(ball.faces)


def test_nothing_beyond_the_cameras_of_an_unbounded_scene(run):
    at = np.random.default_rng(0).uniform(-3, 3, (1000, 3)).astype(np.float32)
    cloud = types.SimpleNamespace(points=at)
    scene = types.SimpleNamespace(bounds=None, unbounded=True)
    box, voxel = mesh.grid_of(types.SimpleNamespace(scene=scene), cloud, 100)
    np.testing.assert_array_equal(box, [[-1] * 3, [1] * 3])
    assert voxel == pytest.approx(0.02)
    scene.unbounded = False
    box, _ = mesh.grid_of(types.SimpleNamespace(scene=scene), cloud, 100)
    assert (box[0] < -2.9).all() and (box[1] > 2.9).all()


def test_a_density_without_a_surface(run):
    class Even(demo_surface.Solid):
        def radiance(self, variables, points, directions):
            return points[:, 0] * 0 + 3, points

    with pytest.raises(UserError, match="the density is nowhere that of a surface"):
        mesh.make(dataclasses.replace(run, field=Even()), 16)


def test_every_texel_of_a_triangle_is_found_once():
    corners = np.array([[[0.0, 0], [8, 0], [0, 8]], [[8, 0], [8, 8], [0, 8]]]) + 1e-3
    row, face, weights = texture._texels(corners, (8, 8))
    assert sorted(row.tolist()) == list(range(64)) and set(face) == {0, 1}
    np.testing.assert_allclose(weights.sum(1), 1)
    middle = np.einsum("kc,kci->ki", weights, corners[face])
    np.testing.assert_allclose(middle, np.stack([row % 8, row // 8], 1) + 0.5)
