"""A mesh's colours as a picture: finer than its vertices, for meshes of few triangles."""

from collections.abc import Callable

import numpy as np
import trimesh
from PIL import Image
from scipy import ndimage

from jaxhw.errors import UserError

PADDING = 2  # texels between charts, so that none reads another's colours
BLOCK = 2**22  # texels that are looked at together
WHITE, BLACK = (255, 255, 255, 255), (0, 0, 0, 255)  # a material's colours, by which its texture is multiplied

Colours = Callable[[np.ndarray, np.ndarray], np.ndarray]  # points, normals [k, 3] -> uint8 [k, 3]


def textured(mesh: trimesh.Trimesh, size: int, colours: Colours) -> trimesh.Trimesh:
    """The mesh, cut into charts, with a texture of `size` texels along its longer side.

    Raises:
      UserError: xatlas is not installed.
    """
    mapping, faces, uv, shape = _unwrapped(mesh, size)
    normals = mesh.vertex_normals[mapping]
    mesh = trimesh.Trimesh(mesh.vertices[mapping], faces, vertex_normals=normals, process=False)
    # Each texel's triangle and its place in it, and from them its point on the surface.
    row, face, weights = _texels(uv[faces] * shape[::-1], shape)
    corner = faces[face]
    blend = lambda values: np.einsum("kc,kci->ki", weights, values[corner])
    normal = blend(normals)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    picture, empty = np.zeros((*shape, 3), np.uint8), np.ones(shape, bool)
    picture.reshape(-1, 3)[row] = colours(blend(mesh.vertices), normal)
    empty.ravel()[row] = False
    # Texels of no triangle take the nearest one's colour: interpolation at a chart's edge reads them too.
    nearest = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    image = Image.fromarray(picture[tuple(nearest)][::-1])  # v points up, rows go down
    material = trimesh.visual.material.SimpleMaterial(image=image, ambient=WHITE, diffuse=WHITE, specular=BLACK)
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return mesh


def _unwrapped(mesh: trimesh.Trimesh, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """(the mesh's vertex of each new one [v], faces [f, 3], uv in [0, 1] [v, 2], the texture's height and width)."""
    try:
        import xatlas
    except ImportError:
        raise UserError("--texture needs xatlas: pip install 'jaxhw[texture]'") from None
    atlas, options = xatlas.Atlas(), xatlas.PackOptions()
    options.resolution, options.padding = size, PADDING
    atlas.add_mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    atlas.generate(pack_options=options)
    # Where many charts leave gaps xatlas takes more room than it was given: 40 % more a side for 50,000 triangles.
    shape = size * np.array([atlas.height, atlas.width]) / max(atlas.height, atlas.width)
    return *atlas[0], tuple(shape.round().astype(int).tolist())


def _texels(corners: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texels whose centres lie in triangles of corners [f, 3, 2] (x, y): (row [k], triangle [k], weights [k, 3])."""
    low = np.floor(corners.min(1)).astype(int)
    extent = np.ceil(corners.max(1)).astype(int) - low + 1
    ends = np.cumsum(extent.prod(1))
    blocks = np.split(np.arange(len(corners)), np.searchsorted(ends, np.arange(BLOCK, ends[-1], BLOCK)))
    found = [_block(corners, low, extent, block, shape) for block in blocks]
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _block(
    corners: np.ndarray, low: np.ndarray, extent: np.ndarray, block: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_texels` of some triangles: those texels of the rectangles around them that lie inside."""
    count = extent[block].prod(1)
    face = np.repeat(block, count)
    number = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    texel = low[face] + np.stack([number % extent[face, 0], number // extent[face, 0]], -1)
    # Barycentric coordinates of the centre, by the areas that it makes with two corners each.
    a, b, c = (corners[face, i] - (texel + 0.5) for i in range(3))
    area = np.stack([_cross(b, c), _cross(c, a), _cross(a, b)], -1)
    whole = area.sum(-1, keepdims=True)
    weights = area / np.where(whole == 0, np.inf, whole)
    inside = (weights >= 0).all(1) & (whole[:, 0] != 0) & ((texel >= 0) & (texel < shape[::-1])).all(1)
    return texel[inside, 1] * shape[1] + texel[inside, 0], face[inside], weights[inside]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
