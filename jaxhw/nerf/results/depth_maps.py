"""Where rays of the training cameras end, and which of these cameras see a point of the scene.

Depth maps are what every export rests on: a point is a surface if several cameras see it at the same place. In shapes,
n counts training cameras, p the pixels of all maps together, and k points.
"""

import functools
from typing import Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxhw import streams
from jaxhw.nerf.cameras import sight
from jaxhw.nerf.cameras.cameras import Cameras, image_rays, project
from jaxhw.nerf.rendering.rows import Rows
from jaxhw.nerf.rendering.volume import Rendered
from jaxhw.nerf.results.run import Run

SOLID = 0.5  # opacity from which on a ray ends at a surface
MOST = 2_000_000  # pixels of all maps, where nothing asks for more
TOLERANCE = 0.01  # of its distance that a point may be off a camera's depth for that camera to see it
CHUNK = 2**16  # points that a device compares with the maps at a time
NEIGHBOURS = ((0, 0), (1, 0), (0, 1), (1, 1))  # the four pixels around a point of a picture


class DepthMaps(flax.struct.PyTreeNode):
    """The training cameras' depth and colour, their pixels one after the other.

    Attributes:
      cameras: n, of the sizes of the maps.
      cosine: [n], see `sight.widest`.
      offset: [n] int32, the first pixel of each map.
      depth: [p] distance along the ray; 0 where it ends at no surface.
      colour: [p, 3].
    """

    cameras: Cameras
    cosine: jax.Array
    offset: jax.Array
    depth: jax.Array
    colour: jax.Array

    @classmethod
    def render(cls, run: Run, pixels: float = 0) -> Self:
        """The maps.

        Args:
          pixels: in all, about; there may be more than the pictures have. 0: as many, but at most `MOST`.
        """
        cameras = run.cameras[run.scene.split["train"]]
        size = np.asarray(cameras.size)
        total = size.prod(1, dtype=np.int64).sum()
        scale = np.sqrt((pixels or min(total, MOST)) / total)
        cameras = cameras.resized(np.maximum(np.round(size * scale), 1))
        depth, colour = [], []
        for i in streams.bar(range(len(cameras)), "depth of the training cameras", len(cameras), "camera"):
            rendered = run.render(cameras[i])
            depth.append(np.where(rendered.opacity > SOLID, rendered.depth, 0).ravel())
            colour.append(rendered.colour.reshape(-1, 3))
        ends = np.cumsum(np.asarray(cameras.size).prod(1))
        return cls(
            cameras=cameras,
            cosine=np.asarray(sight.widest(cameras)),
            offset=np.concatenate([[0], ends[:-1]]).astype(np.int32),
            depth=np.concatenate(depth).astype(np.float32),
            colour=np.concatenate(colour).astype(np.float32),
        )

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Of all pixels whose rays end at a surface: (row [k] among the pixels, ray's direction [k, 3])."""
        directions = np.concatenate(
            [np.asarray(image_rays(self.cameras[i]).directions) for i in range(len(self.cameras))]
        )
        (row,) = np.nonzero(self.depth)
        return row, directions[row]

    def points(self, row: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """[k, 3] float32 where the rays of pixels [k] end."""
        camera = np.searchsorted(self.offset, row, side="right") - 1
        return self.cameras.pose[camera, :, 3] + directions * self.depth[row][:, None]


class Observers(flax.struct.PyTreeNode):
    """What the training cameras have to say of points.

    Attributes:
      count: [k] int32, cameras that see a surface there.
      against: [k] int32, cameras that see through the point to something behind it, or to nothing.
      spread: [k], how much the observers' colours differ: their rms distance from their mean; 0 of a single one.
      direction: [k, 3] the mean of the unit directions in which the observers see the point.
    """

    count: jax.Array
    against: jax.Array
    spread: jax.Array
    direction: jax.Array

    @property
    def parallax(self) -> jax.Array:
        """[k] radians, rms angle of the observers' directions to their mean: whether they tell how far a point is."""
        # Unit vectors at small angles from their mean: 1 - |mean| is half of the mean square of the angles.
        return (2 - 2 * (self.direction**2).sum(-1) ** 0.5).clip(0) ** 0.5


class _Sums(flax.struct.PyTreeNode):
    """Sums over cameras, for each point."""

    count: jax.Array
    against: jax.Array
    colour: jax.Array
    squares: jax.Array
    direction: jax.Array


def observers(maps: DepthMaps, points: jax.Array) -> Observers:
    """The observers of points [k, 3]. Traced, on one device."""
    k = len(points)
    nobody, nothing = jnp.zeros(k, jnp.int32), jnp.zeros((k, 3))
    zero = _Sums(nobody, nobody, nothing, jnp.zeros(k), nothing)
    sums = jax.lax.fori_loop(0, len(maps.cameras), lambda i, sums: _with_camera(maps, i, points, sums), zero)
    count = jnp.maximum(sums.count, 1)
    colour, direction = sums.colour / count[:, None], sums.direction / count[:, None]
    spread = jnp.sqrt(jnp.maximum(sums.squares / count - (colour**2).sum(-1), 0))
    return Observers(sums.count, sums.against, spread, direction)


def _with_camera(maps: DepthMaps, i: jax.Array, points: jax.Array, sums: _Sums) -> _Sums:
    """The sums with what camera i says."""
    camera = jax.tree.map(lambda a: jnp.asarray(a)[i], maps.cameras)
    inside, distance = sight.sees(camera, jnp.asarray(maps.cosine)[i], points)
    # The depths of the four pixels around each point: on a slanted surface one of them is near enough, where a mean of
    # them would mix the surface with what is behind its edge.
    toward = points - camera.pose[:, 3]
    corner = jnp.floor(project(camera, toward @ camera.pose[:, :3]) - 0.5).astype(jnp.int32)
    pixel = jnp.clip(corner[:, None] + jnp.array(NEIGHBOURS), 0, camera.size - 1)
    row = jnp.asarray(maps.offset)[i] + pixel[..., 1] * camera.size[0] + pixel[..., 0]
    depth = jnp.asarray(maps.depth)[row]
    off, tolerance = jnp.abs(depth - distance[:, None]), TOLERANCE * distance[:, None]
    best = off.argmin(-1)
    sees = inside & (off <= tolerance).any(-1)
    through = inside & ((depth == 0) | (depth > distance[:, None] + tolerance)).all(-1)
    row = jnp.take_along_axis(row, best[:, None], 1)[:, 0]
    colour = jnp.where(sees[:, None], jnp.asarray(maps.colour)[row], 0)
    direction = jnp.where(sees[:, None], toward / jnp.maximum(distance, 1e-9)[:, None], 0)
    return _Sums(
        count=sums.count + sees,
        against=sums.against + through,
        colour=sums.colour + colour,
        squares=sums.squares + (colour**2).sum(-1),
        direction=sums.direction + direction,
    )


def observe(run: Run, maps: DepthMaps, points: np.ndarray) -> Observers:
    """`observers` of points [k, 3], k > 0, in chunks over all devices; arrays of the host."""
    return _rows(run.renderer.mesh)(maps, points, "observers")


def observers_of(run: Run, maps: DepthMaps, camera: Cameras, rendered: Rendered) -> np.ndarray:
    """[h, w] how many training cameras see what one camera's picture shows; 0 where it shows nothing."""
    rays = image_rays(camera)
    points = np.asarray(rays.origins + rays.directions * rendered.depth.reshape(-1, 1))
    count = observe(run, maps, points).count.reshape(rendered.depth.shape)
    return np.where(rendered.opacity > SOLID, count, 0)


@functools.cache
def _rows(mesh: Mesh) -> Rows:
    """One program for all pictures of a video."""
    return Rows(observers, mesh, CHUNK)
