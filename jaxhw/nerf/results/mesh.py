"""A triangle mesh of a trained scene: the surface on which its density has the value at which cameras' rays end.

Marching cubes in the box of what the training cameras see, without what none of them sees: the inside of objects, the
underside of tables, floaters behind walls. Nothing closes holes: where no camera looked there is no surface. In shapes,
k counts points.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import trimesh
from skimage import measure

from jaxhw.errors import UserError
from jaxhw.nerf.rendering import volume
from jaxhw.nerf.rendering.rows import Rows
from jaxhw.nerf.results import points
from jaxhw.nerf.results.depth_maps import DepthMaps, observe
from jaxhw.nerf.results.panels import to_uint8
from jaxhw.nerf.results.run import Run

PyTree = Any

FINENESS = 0.5  # pixels along an edge of a depth map over the voxels along the box's
POINTS = 100_000  # of the cloud that says where the surface is
LEVEL = 0.15  # share of the cloud's points at which density is lower than on the surface
OUTERMOST, MARGIN = 0.005, 0.05  # share of the points at either end of an axis outside the box; its edges over theirs
SMALLEST = 0.01  # triangles of a component that stays, over those of the largest
CHUNK = 2**17  # points that a device works on at a time
THICK, SAMPLES = 2.0, 16  # voxels before and behind the surface that make its colour, and samples there


def make(run: Run, resolution: int = 256, faces: int = 0) -> trimesh.Trimesh:
    """The surface in the scene's frame, without colours.

    Args:
      resolution: voxels along the longest edge of the box.
      faces: that are left after decimation; 0: all.

    Raises:
      UserError: no two training cameras agree on a surface, or density is the same everywhere.
    """
    maps = DepthMaps.render(run, len(run.scene.split["train"]) * (FINENESS * resolution) ** 2)
    cloud = points.of_maps(run, maps, POINTS)
    box, voxel = grid_of(run, cloud, resolution)
    level = np.quantile(_density(run, cloud.points, "density on the surface"), LEVEL)
    mesh = _components(_seen(run, maps, _marched(_on_grid(run, box, voxel), level, box[0], voxel)))
    if 0 < faces < len(mesh.faces):
        mesh = mesh.simplify_quadric_decimation(face_count=faces)
    mesh.metadata["voxel"] = voxel
    return mesh


def grid_of(run: Run, cloud: points.Cloud, resolution: int) -> tuple[np.ndarray, float]:
    """(box [2, 3], edge of a voxel): around the content where that is known, else around the cloud.

    What is beyond the cameras of an unbounded scene is its background, and stays outside.
    """
    box = run.scene.bounds
    if box is None:
        box = np.quantile(cloud.points, [OUTERMOST, 1 - OUTERMOST], axis=0)
        box += MARGIN * (box[1] - box[0]) * np.array([[-1], [1]])
        if run.scene.unbounded:
            box = box.clip(-1, 1)
    return box, float((box[1] - box[0]).max()) / resolution


def _density(run: Run, at: np.ndarray, what: str) -> np.ndarray:
    """[k] at points [k, 3]."""
    return Rows(run.field.density, run.renderer.mesh, CHUNK)(run.variables, at, what)


def _on_grid(run: Run, box: np.ndarray, voxel: float) -> np.ndarray:
    """Density [x, y, z] at the vertices of voxels that fill a box from its lower corner."""
    shape = tuple(int(n) for n in np.ceil((box[1] - box[0]) / voxel - 1e-6) + 1)

    def density(shared: PyTree, index: jax.Array) -> jax.Array:
        variables, corner = shared
        vertex = jnp.stack([index // (shape[1] * shape[2]), index // shape[2] % shape[1], index % shape[2]], -1)
        return run.field.density(variables, corner + voxel * vertex)

    rows = Rows(density, run.renderer.mesh, CHUNK)
    index = np.arange(np.prod(shape), dtype=np.int32)
    return rows((run.variables, box[0].astype(np.float32)), index, "density").reshape(shape)


def _marched(density: np.ndarray, level: float, corner: np.ndarray, voxel: float) -> trimesh.Trimesh:
    """The surface of a density [x, y, z], which is `level` there."""
    if not density.min() < level < density.max():
        raise UserError("the density is nowhere that of a surface: train longer")
    # Density rises by orders of magnitude in a voxel, so that a straight line between vertices would meet the level
    # beside the outer one. This share of it is a half on the surface, and rises like an opacity.
    share = density / (density + level)
    vertices, faces, _, _ = measure.marching_cubes(share, 0.5, spacing=(voxel,) * 3, gradient_direction="ascent")
    return trimesh.Trimesh(corner + vertices, faces, process=False)


def _seen(run: Run, maps: DepthMaps, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The triangles with a vertex that a training camera sees, from outside."""
    seen = observe(run, maps, mesh.vertices.astype(np.float32))
    outside = (seen.direction * mesh.vertex_normals).sum(1) < 0
    return _with_faces(mesh, ((seen.count > 0) & outside)[mesh.faces].any(1))


def _components(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The largest connected parts."""
    label = trimesh.graph.connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    size = np.bincount(label)
    return _with_faces(mesh, (size >= SMALLEST * size.max())[label])


def _with_faces(mesh: trimesh.Trimesh, keep: np.ndarray) -> trimesh.Trimesh:
    if not keep.any():
        raise UserError("no training camera sees a surface of the density: train longer")
    mesh = trimesh.Trimesh(mesh.vertices, mesh.faces[keep], process=False)
    mesh.remove_unreferenced_vertices()
    return mesh


def coloured(run: Run, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The mesh with a colour at each vertex."""
    found = colours(run, mesh.vertices, mesh.vertex_normals, mesh.metadata["voxel"])
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=found)
    return mesh


def colours(run: Run, at: np.ndarray, normals: np.ndarray, voxel: float) -> np.ndarray:
    """uint8 [k, 3]: what rays against the normals [k, 3] see of the surface at points [k, 3]."""
    offset = THICK * voxel * np.linspace(1, -1, SAMPLES, dtype=np.float32)
    length = 2 * THICK * voxel / SAMPLES

    def shade(variables: PyTree, rows: tuple[jax.Array, jax.Array]) -> jax.Array:
        at, normals = rows
        samples = (at[:, None] + normals[:, None] * offset[:, None]).reshape(-1, 3)
        density, colour = run.field.radiance(variables, samples, -jnp.repeat(normals, SAMPLES, 0))
        weights, _ = volume.weights_from_density(density.reshape(-1, SAMPLES), length)
        # What is left of the light counts as the surface's too: there is no background so near to it.
        sums = (weights[..., None] * colour.reshape(-1, SAMPLES, 3)).sum(1)
        return sums / jnp.maximum(weights.sum(1, keepdims=True), 1e-9)

    rows = Rows(shade, run.renderer.mesh, CHUNK // SAMPLES)
    return to_uint8(rows(run.variables, (at.astype(np.float32), normals.astype(np.float32)), "colours"))
