"""Meshes read again from their files: shapes, colours, and materials that leave colours as they are."""

import json

import numpy as np
import pytest
import trimesh

from jaxhw.nerf.results import mesh_files, texture
from tests.nerf import demo_surface


@pytest.fixture
def ball():
    return trimesh.creation.icosphere(3)


def shade(at, normals=None):
    """uint8 [k, 3]: the colours of the demo's solids anywhere in space."""
    return np.round(255 * np.asarray(demo_surface.colour(at))).astype(np.uint8)


def coloured(ball):
    ball.visual = trimesh.visual.ColorVisuals(ball, vertex_colors=shade(ball.vertices))
    return ball


def image_of(mesh):
    material = mesh.visual.material
    return np.asarray((getattr(material, "image", None) or material.baseColorTexture).convert("RGB"))


def tree_of(path):
    """The JSON of a .glb."""
    content = path.read_bytes()
    return json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])


@pytest.mark.parametrize("name", ["mesh.ply", "mesh.obj", "mesh.glb"])
def test_files_with_colours(ball, tmp_path, name):
    mesh_files.write(tmp_path / name, coloured(ball))
    read = trimesh.load(tmp_path / name, force="mesh", process=False)
    assert len(read.faces) == len(ball.faces) and [path.name for path in tmp_path.iterdir()] == [name]
    np.testing.assert_allclose(read.bounds, ball.bounds, atol=1e-5)
    expected = np.asarray(demo_surface.colour(read.vertices))
    if name == "mesh.glb":  # whose vertices have amounts of light: a grey of 0.5 is 0.214 of white's
        assert mesh_files.linear(np.array(0.5)) == pytest.approx(0.21404, abs=1e-5)
        (geometry,) = trimesh.load(tmp_path / name, process=False).geometry.values()
        found, expected = geometry.visual.vertex_attributes["color"], mesh_files.linear(expected)
    else:
        found = read.visual.vertex_colors[:, :3] / 255
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("name", ["mesh.obj", "mesh.glb"])
def test_files_with_a_texture(ball, tmp_path, name):
    """Read at the middles of its triangles, a texture has the colours of these places."""
    mesh_files.write(tmp_path / name, texture.textured(ball, 256, shade))
    read = trimesh.load(tmp_path / name, force="mesh", process=False)
    assert len(read.faces) == len(ball.faces)
    image = image_of(read) / 255
    assert max(image.shape) == 256
    u, v = read.visual.uv[read.faces].mean(1).T
    found = image[((1 - v) * image.shape[0]).astype(int), (u * image.shape[1]).astype(int)]
    np.testing.assert_allclose(found, demo_surface.colour(read.triangles_center), atol=0.03)


@pytest.mark.parametrize("look", [coloured, lambda ball: texture.textured(ball, 64, shade)])
def test_a_glb_is_shown_in_its_colours_unlit(ball, tmp_path, look):
    mesh_files.write(tmp_path / "mesh.glb", look(ball))
    tree = tree_of(tmp_path / "mesh.glb")
    (material,) = tree["materials"]
    matt = material["pbrMetallicRoughness"]
    assert tree["meshes"][0]["primitives"][0]["material"] == 0
    assert tree["extensionsUsed"] == ["KHR_materials_unlit"] and "KHR_materials_unlit" in material["extensions"]
    assert matt["metallicFactor"] == 0 and matt.get("baseColorFactor", [1, 1, 1, 1]) == [1, 1, 1, 1]


def test_an_obj_multiplies_its_texture_by_white(ball, tmp_path):
    mesh_files.write(tmp_path / "mesh.obj", texture.textured(ball, 64, shade))
    lines = (tmp_path / "mesh.mtl").read_text().splitlines()
    values = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("K", "map"))}
    assert [float(value) for value in values["Kd"]] == [1, 1, 1] and [float(value) for value in values["Ks"]] == [0] * 3
    assert values["map_Kd"] == ["mesh_texture.png"]


def test_two_meshes_with_textures_share_a_folder(ball, tmp_path):
    for name, grey in (("room 1.obj", 50), ("lego.obj", 200)):
        plain = lambda at, normals, grey=grey: np.full((len(at), 3), grey, np.uint8)
        mesh_files.write(tmp_path / name, texture.textured(ball, 64, plain))
    read = {name: trimesh.load(tmp_path / name, force="mesh") for name in ("room 1.obj", "lego.obj")}
    assert {name: np.unique(image_of(mesh)).tolist() for name, mesh in read.items()} == {
        "room 1.obj": [50],
        "lego.obj": [200],
    }
