"""What a task computes beside its training steps, as functions that can be compiled without being run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

PyTree = Any


class Program(NamedTuple):
    """A jitted function, and what it is called with.

    Attributes:
      function: jitted over the task's mesh.
      arguments: arrays or their shapes. Variables come first, and lie as those of a run do. The first axis of those in
        the last argument is divided among the devices; the others are whole on each.
      examples: how many images or rays a call is for.
    """

    function: Callable[..., PyTree]
    arguments: tuple[PyTree, ...]
    examples: int


def shapes(arrays: PyTree) -> PyTree:
    """Arrays as ShapeDtypeStructs."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)
