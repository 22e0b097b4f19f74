"""The methods of self-supervised learning by name: their options, and building one from a config.

A method is one small file with a subclass of :class:`~jaxhw.vision.ssl.methods.base.Method`, and a line here.
"""

from collections.abc import Mapping
from typing import Any

from jaxhw.options import defaults, one_of, read, require
from jaxhw.vision.ssl.methods.barlow_twins import BarlowTwins
from jaxhw.vision.ssl.methods.base import Method
from jaxhw.vision.ssl.methods.byol import BYOL
from jaxhw.vision.ssl.methods.moco import MoCo
from jaxhw.vision.ssl.methods.simclr import SimCLR
from jaxhw.vision.ssl.methods.simsiam import SimSiam
from jaxhw.vision.ssl.methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {
    "simclr": SimCLR,
    "byol": BYOL,
    "simsiam": SimSiam,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "moco": MoCo,
}


def options(name: str) -> dict[str, Any]:
    """The options of a method, with their defaults.

    Raises:
        UserError: there is no such method.
    """
    return defaults(_find(name))


def create(config: Mapping) -> Method:
    """Builds the method `config["name"]`; the other entries are its options.

    Raises:
        UserError: an unknown method, option or value.
    """
    given = dict(config)
    name = given.pop("name", None)
    return read(_find(name), given, "config.method", owner=name)


def _find(name: str) -> type[Method]:
    require("config.method.name", name, one_of(*METHODS), kind=str)
    return METHODS[name]
