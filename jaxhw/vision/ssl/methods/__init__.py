"""The methods of self-supervised learning by name: their options, and building one from a config.

A method is one small file with a subclass of :class:`~jaxhw.vision.ssl.methods.base.Method`, and a line here.
"""

from collections.abc import Mapping
from dataclasses import fields

from jaxhw.errors import UserError
from jaxhw.vision.ssl.methods.barlow_twins import BarlowTwins
from jaxhw.vision.ssl.methods.base import Method, need
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
_KINDS = {int: "a positive whole number", float: "a number", bool: "true or false", str: "text"}


def options(name: str) -> dict:
    """The options of a method, with their defaults.

    Raises:
        UserError: there is no such method.
    """
    if name not in METHODS:
        raise UserError(f"method.name: unknown method {name!r}; choose one of {', '.join(METHODS)}")
    return {field.name: field.default for field in fields(METHODS[name])}


def create(config: Mapping) -> Method:
    """Builds the method `config["name"]`; the other entries are its options.

    Raises:
        UserError: an unknown method, option or value.
    """
    given = dict(config)
    name = given.pop("name", None)
    defaults = options(name)
    for key, value in given.items():
        if key not in defaults:
            raise UserError(f"method.{key}: {name} has no such option; it has {', '.join(defaults)}")
        kind = type(defaults[key])
        fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
        need(fits and (kind is not int or value > 0), key, value, _KINDS[kind])
    return METHODS[name](**given)
