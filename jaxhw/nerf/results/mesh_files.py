"""A mesh as a file that other programs show in its own colours, as the training cameras saw them.

What a scene looks like holds its light already. So materials are white, and a .glb's asks not to be lit again.
"""

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from trimesh.exchange.obj import export_obj

from jaxhw import files

UNLIT = "KHR_materials_unlit"  # glTF's extension: the colour is the material's, whatever shines on it
MATT = {"metallicFactor": 0.0, "roughnessFactor": 1.0}  # for readers without it; a metal is black in a dark room
COLOURS = "_COLOR_0"  # trimesh writes attributes of its caller's with an underscore


def write(path: Path, mesh: trimesh.Trimesh) -> None:
    """Writes a .ply, .obj or .glb; beside FILE.obj with a texture come FILE.mtl and FILE_texture.png."""
    with files.complete(path) as partial:
        if path.suffix == ".obj":
            partial.write_text(_obj(path, mesh))
        elif path.suffix == ".glb":
            partial.write_bytes(_glb(mesh))
        else:
            mesh.export(partial)


def _obj(path: Path, mesh: trimesh.Trimesh) -> str:
    """The text of an .obj, whose material and texture are written: of its name, so that meshes may share a folder."""
    stem = "_".join(path.stem.split())  # a space ends a name in these files
    if mesh.visual.kind == "texture":
        mesh.visual.material.name = f"{stem}_texture"
    text, beside = export_obj(mesh, return_texture=True, mtl_name=f"{stem}.mtl")
    for name, content in beside.items():
        with files.complete(path.with_name(name)) as partial:
            partial.write_bytes(content)
    return text


def _glb(mesh: trimesh.Trimesh) -> bytes:
    if mesh.visual.kind == "vertex":
        # glTF's colours of vertices are linear, those of its textures sRGB.
        colours = linear(mesh.visual.vertex_colors[:, :3] / np.float32(255))
        mesh = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False, vertex_attributes={COLOURS: colours})
    return mesh.export(file_type="glb", tree_postprocessor=_unlit)


def _unlit(tree: dict[str, Any]) -> None:
    """Gives a glTF's one mesh a material that is shown as it is."""
    primitive = tree["meshes"][0]["primitives"][0]
    if COLOURS in primitive["attributes"]:
        primitive["attributes"][COLOURS[1:]] = primitive["attributes"].pop(COLOURS)
        tree["materials"], primitive["material"] = [{"pbrMetallicRoughness": {}}], 0
    (material,) = tree["materials"]
    material["pbrMetallicRoughness"] |= MATT
    material["extensions"], tree["extensionsUsed"] = {UNLIT: {}}, [UNLIT]


def linear(colours: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] as amounts of light, by IEC 61966-2-1."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
