"""A point cloud of a trained scene: where rays of the training cameras end, as far as these cameras agree.

A ray has an end if it is opaque by itself, whatever colour is behind it; a point stays if other training cameras see a
surface there too, from another direction. What is left of floaters has no neighbours. In shapes, k counts points.
"""

import dataclasses
from typing import Self

import jax
import numpy as np
from scipy.spatial import cKDTree

from jaxhw.errors import UserError
from jaxhw.nerf.cameras.alignment import scale_of
from jaxhw.nerf.results.depth_maps import DepthMaps, Observers, observe
from jaxhw.nerf.results.panels import to_uint8
from jaxhw.nerf.results.run import Run

SURVEY = 200_000  # pixels that tell how many a cloud of a given size takes
SPARE = 1.2  # as many pixels more than they tell
PARALLAX = np.radians(1.0)  # less tells nothing of a distance: all cameras agree about a far background anywhere
NEAREST, DEVIATIONS = 20, 10.0  # neighbours whose mean distance marks outliers, as nerfstudio has them
# Neighbours that give a normal, and the points among which they lie: the very nearest are nearer than depths are exact.
NEIGHBOURS, AMONG = 40, 30_000


@dataclasses.dataclass(frozen=True)
class Cloud:
    """k points of surfaces.

    Attributes:
      points: [k, 3] float32.
      normals: [k, 3] float32 of unit length, towards the camera that found the point: those of the plane through its
        neighbours.
      colours: [k, 3] uint8.
      observers: [k] int32, how many training cameras see the point.
      spread: [k] float32, rms distance of the colours that they see from their mean, colours in [0, 1].
    """

    points: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    observers: np.ndarray
    spread: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: np.ndarray) -> Self:
        return type(self)(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def moved(self, matrix: np.ndarray) -> Self:
        """The cloud after a similarity [4, 4]."""
        rotation = matrix[:3, :3] / scale_of(matrix)
        return dataclasses.replace(
            self,
            points=(self.points @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32),
            normals=(self.normals @ rotation.T).astype(np.float32),
        )


def make(run: Run, count: int, seed: int = 0) -> Cloud:
    """A cloud of `count` points, or a little less where outliers are among them, in the scene's frame.

    Raises:
      UserError: no two training cameras agree on a surface.
    """
    survey = DepthMaps.render(run, SURVEY)
    share = len(_agreed(run, survey)[0]) / len(survey.depth)
    return of_maps(run, DepthMaps.render(run, SPARE * count / share), count, seed)


def of_maps(run: Run, maps: DepthMaps, count: int, seed: int = 0) -> Cloud:
    """A cloud of `count` of the points of maps, drawn at random, or of all where there are less; without outliers.

    Raises:
      UserError: no two training cameras agree on a surface.
    """
    row, directions, seen = _agreed(run, maps)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(row))[:count])
    row, directions = row[chosen], directions[chosen]
    points = maps.points(row, directions)
    cloud = Cloud(
        points=points,
        normals=normals(points, directions),
        colours=to_uint8(maps.colour[row]),
        observers=seen.count[chosen],
        spread=seen.spread[chosen],
    )
    return cloud[inliers(points)]


def _agreed(run: Run, maps: DepthMaps) -> tuple[np.ndarray, np.ndarray, Observers]:
    """(row among the pixels, direction, observers) of the ends of rays that the cameras agree on.

    Of the cameras but the ray's own, one at least sees the point, and not more see through it.

    Raises:
      UserError: there is none.
    """
    row, directions = maps.ends()
    if len(row):
        seen = observe(run, maps, maps.points(row, directions))
        keep = (seen.count >= 2) & (seen.count - 1 >= seen.against) & (seen.parallax > PARALLAX / 2)
        if keep.any():
            return row[keep], directions[keep], jax.tree.map(lambda values: values[keep], seen)
    raise UserError(
        "no surface is seen by two of the training cameras: the run may be too short, or its poses wrong (look at "
        "jaxhw render's pictures)"
    )


def inliers(points: np.ndarray) -> np.ndarray:
    """[k] bool: all points but those whose neighbours are far away, by the mean distance of the `NEAREST`."""
    if len(points) <= NEAREST:
        return np.ones(len(points), bool)
    distance, _ = cKDTree(points).query(points, NEAREST + 1, workers=-1)
    mean = distance[:, 1:].mean(1)
    return mean <= mean.mean() + DEVIATIONS * mean.std()


def normals(points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """[k, 3] float32 normals of the planes through the points' neighbours, against the rays' directions [k, 3]."""
    thinned = points[:: -(-len(points) // AMONG)].astype(np.float64)
    _, index = cKDTree(thinned).query(points, min(NEIGHBOURS, len(thinned)), workers=-1)
    found = np.empty_like(points)
    for part in np.array_split(np.arange(len(points)), -(-len(points) // AMONG)):
        near = thinned[index[part]]
        near -= near.mean(1, keepdims=True)
        found[part] = np.linalg.eigh(np.einsum("kni,knj->kij", near, near))[1][:, :, 0]
    away = (found * directions).sum(1, keepdims=True) > 0
    return np.where(away, -found, found)
