"""Pytrees by the names of their leaves: "params/layer1_0/conv1/kernel", whatever kind of node lies on the way."""

from collections.abc import Mapping
from typing import Any

import jax

PyTree = Any


def path_name(path: tuple) -> str:
    """A key path as text: "layer1_0/conv1/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def by_name(tree: PyTree) -> dict[str, Any]:
    """Every leaf under its path's name, in the tree's order."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def filled(like: PyTree, leaves: Mapping[str, Any]) -> PyTree:
    """A tree of the form of ``like`` with the leaves of these names.

    Raises:
      KeyError: a name is missing.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[path_name(path)], like)
