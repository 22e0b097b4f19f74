"""Radiance fields by name, from the values of a config."""

import importlib
from collections.abc import Mapping
from typing import Any

from jaxhw import options
from jaxhw.errors import UserError
from jaxhw.nerf.fields.field import Field, Setting

# A field of another package needs no line here: `config.model.name` takes "module:Class" as well.
FIELDS = {
    "vanilla": "jaxhw.nerf.fields.vanilla:Vanilla",
    "dvgo": "jaxhw.nerf.fields.dvgo.field:DVGO",
    "nerfacto": "jaxhw.nerf.fields.nerfacto.field:Nerfacto",
}


def find(name: str) -> type[Field]:
    """The class of a field, of FIELDS or "module:Class".

    Raises:
      UserError: there is none.
    """
    module, _, cls = FIELDS.get(name, name).partition(":")
    try:
        found = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(FIELDS)
        raise UserError(
            f"config.model.name={name!r} must be one of {known}, or MODULE:CLASS of a module that "
            f"can be imported: installed, or its folder on PYTHONPATH ({error})"
        ) from None
    return found


def default_options(name: str) -> dict[str, Any]:
    """`config.model` of a field, with the values that its authors published."""
    return {"name": name, **options.defaults(find(name).Options)}


def create(model: Mapping[str, Any], setting: Setting) -> Field:
    """The field that `config.model` names, for a scene.

    Raises:
      UserError: there is no such field or option, or a value that cannot be.
    """
    values = dict(model.items())
    name = values.pop("name")
    field = find(name)
    return field.create(options.read(field.Options, values, "config.model", owner=name), setting)
