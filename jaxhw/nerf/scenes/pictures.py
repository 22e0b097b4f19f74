"""The pictures of a scene: one flat table of pixels, so that pictures may differ in size and pixels may be left out.

A row of the table is a pixel. Pictures follow each other, each row by row, and `offsets` says where each begins.
In shapes, n counts pictures, p the pixels of all of them, m those that no mask leaves out, and h, w are one picture's.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Self

import numpy as np

from jaxhw.nerf.cameras.cameras import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """n pictures.

    Attributes:
      table: uint8 [p, 3] or [p, 4], all pixels; colours are not multiplied by alpha.
      size: int32 [n, 2], width and height of each picture.
      kept: int64 [m], ascending: the rows of the table that are not masked. None where nothing is masked.
    """

    table: np.ndarray
    size: np.ndarray
    kept: np.ndarray | None = None

    @classmethod
    def blank(cls, size: np.ndarray, channels: int) -> Self:
        """White, opaque pictures, to be filled in through `pictures[i][...] = picture`."""
        size = np.asarray(size, np.int32).reshape(-1, 2)
        return cls(table=np.full((_offsets(size)[-1], channels), 255, np.uint8), size=size)

    @classmethod
    def without_pixels(cls, size: np.ndarray) -> Self:
        """Pictures of which only the sizes are known, as in the scene of a run's workdir."""
        return cls(table=np.zeros((0, 3), np.uint8), size=np.asarray(size, np.int32).reshape(-1, 2))

    @classmethod
    def from_arrays(cls, pictures: Sequence[np.ndarray], masks: Sequence[np.ndarray | None] | None = None) -> Self:
        """From uint8 [h, w, 3 or 4] pictures, and bool [h, w] masks that are True where a pixel counts.

        Pictures without alpha are opaque where another has alpha. An array [n, h, w, c] is not copied.
        """
        size = np.array([(picture.shape[1], picture.shape[0]) for picture in pictures], np.int32).reshape(-1, 2)
        if isinstance(pictures, np.ndarray):
            out = cls(table=pictures.reshape(-1, pictures.shape[-1]), size=size)
        else:
            out = cls.blank(size, max((picture.shape[-1] for picture in pictures), default=3))
            for i, picture in enumerate(pictures):
                out[i][..., : picture.shape[-1]] = picture
        return out if masks is None else out.masked(masks)

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """int64 [n + 1]: picture i is the rows offsets[i] to offsets[i + 1] of the table."""
        return _offsets(self.size)

    @property
    def count(self) -> int:
        """The number of pixels that count: m, or p where nothing is masked."""
        return len(self.table if self.kept is None else self.kept)

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, i: int) -> np.ndarray:
        """Picture i: uint8 [h, w, 3 or 4], a view of the table."""
        width, height = self.size[i]
        return self.table[self._rows(i)].reshape(height, width, self.table.shape[1])

    def mask(self, i: int) -> np.ndarray:
        """bool [h, w]: where a pixel of picture i counts."""
        width, height = self.size[i]
        if self.kept is None:
            return np.ones((height, width), bool)
        counts = np.zeros(height * width, bool)
        counts[self._kept_of(i)] = True
        return counts.reshape(height, width)

    def masked(self, masks: Sequence[np.ndarray | None]) -> Self:
        """The same pictures with other masks: n arrays, bool [h, w] and True where a pixel counts, or None."""
        if all(mask is None or mask.all() for mask in masks):
            return dataclasses.replace(self, kept=None)
        kept = [
            self.offsets[i] + (np.arange(np.prod(self.size[i])) if mask is None else np.flatnonzero(mask))
            for i, mask in enumerate(masks)
        ]
        return dataclasses.replace(self, kept=np.concatenate(kept))

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`count` rows of the table (int64), each pixel that counts as likely as any other, with replacement."""
        drawn = rng.integers(self.count, size=count)
        return drawn if self.kept is None else self.kept[drawn]

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which pixels k rows of the table are: (picture int32 [k], pixel centre (x, y) float32 [k, 2])."""
        picture = np.searchsorted(self.offsets, rows, side="right") - 1
        y, x = np.divmod(rows - self.offsets[picture], self.size[picture, 0])
        return picture.astype(np.int32), np.stack([x, y], -1).astype(np.float32) + 0.5

    def subset(self, indices: Sequence[int] | np.ndarray) -> Self:
        """Some of the pictures, in the order of `indices`: a view of the table where they follow each other in it."""
        indices = np.asarray(indices, np.int64)
        size = self.size[indices]
        if not len(indices) or not len(self.table):
            return type(self)(table=self.table[:0], size=size)
        if (np.diff(indices) == 1).all():
            table = self.table[self.offsets[indices[0]] : self.offsets[indices[-1] + 1]]
        else:
            table = np.concatenate([self.table[self._rows(i)] for i in indices])
        if self.kept is None:
            return type(self)(table=table, size=size)
        kept = [start + self._kept_of(i) for start, i in zip(_offsets(size), indices, strict=False)]
        kept = np.concatenate(kept)
        return type(self)(table=table, size=size, kept=None if len(kept) == len(table) else kept)

    def _rows(self, i: int) -> slice:
        return slice(self.offsets[i], self.offsets[i + 1])

    def _kept_of(self, i: int) -> np.ndarray:
        """The pixels of picture i that count, numbered from its first; only where there are masks."""
        first, last = np.searchsorted(self.kept, self.offsets[i : i + 2])
        return self.kept[first:last] - self.offsets[i]


def over(colours: Array, background: Array) -> Array:
    """uint8 RGB or RGBA [..., 3 or 4] over a background [..., 3]: [..., 3] in [0, 1]."""
    values = colours.astype(np.float32) / 255
    if colours.shape[-1] == 3:
        return values
    return values[..., :3] * values[..., 3:] + background * (1 - values[..., 3:])


def _offsets(size: np.ndarray) -> np.ndarray:
    """int64 [n + 1], from sizes [n, 2]."""
    return np.concatenate([[0], np.cumsum(size.astype(np.int64).prod(1))])
