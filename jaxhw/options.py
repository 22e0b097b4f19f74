"""Options: what a config may set, each declared once, as a field of a dataclass with its default, doc and rules.

    @dataclass(frozen=True)
    class Options:
        width: int = option(256, "of the hidden layers", at_least(1))

``defaults(Options)`` gives the keys that a config starts from; ``read(Options, values, "config.model")`` checks a
config's values and makes an ``Options`` of them. A value is of the kind of its default (a whole number may stand for a
number, a list for a tuple), numbers are finite, and every rule must hold. Whatever does not is told in one style:
``config.model.width=0 must be a whole number of at least 1``.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from jaxhw.errors import UserError

T = TypeVar("T")
KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", tuple: "a tuple"}


class Rule(NamedTuple):
    """What a value must be: ``says`` ends the sentence "... must be a number"; ``holds`` is its test."""

    says: str
    holds: Callable[[Any], bool]


def at_least(least: float) -> Rule:
    return Rule(f"of at least {least:g}", lambda value: value >= least)


def above(least: float) -> Rule:
    return Rule(f"above {least:g}", lambda value: value > least)


def below(most: float) -> Rule:
    return Rule(f"below {most:g}", lambda value: value < most)


def between(least: float, most: float) -> Rule:
    return Rule(f"from {least:g} to {most:g}", lambda value: least <= value <= most)


def one_of(*choices: str) -> Rule:
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices)


def each(rule: Rule, count: int | None = None, least: int = 1) -> Rule:
    """A tuple of numbers (as many as ``count``, or at least ``least``, 0 or 1) for each of which a rule holds."""
    many = f"{count} numbers" if count else ("any number of numbers", "one number or more")[least]

    def holds(values: Any) -> bool:
        return (len(values) == count if count else len(values) >= least) and all(
            _is_number(v) and rule.holds(v) for v in values
        )

    return Rule(f"of {many}, each {rule.says}", holds)


# A number of steps, or a share of a run however long it is.
STEPS = Rule("of steps, or a share of the run below 1", lambda value: 0 <= value < 1 or (value >= 1 and value % 1 == 0))


def option(default: Any, doc: str = "", *rules: Rule) -> Any:
    """A dataclass field that a config may set; ``default`` may be an instance of another dataclass of options."""
    return dataclasses.field(default=default, metadata={"doc": doc, "rules": rules})


def fields(cls: type) -> list[dataclasses.Field]:
    """The fields of a dataclass that were declared with :func:`option`."""
    return [field for field in dataclasses.fields(cls) if "rules" in field.metadata]


def defaults(cls: type) -> dict[str, Any]:
    """Every option of a dataclass with its default; those of a dataclass within it as a dict of their own."""
    return {field.name: _plain(field.default) for field in fields(cls)}


def read(cls: type[T], values: Mapping[str, Any], where: str, owner: str = "") -> T:
    """An instance of a dataclass of options; see :func:`checked`."""
    return cls(**checked(cls, values, where, owner))


def checked(cls: type, values: Mapping[str, Any], where: str, owner: str = "") -> dict[str, Any]:
    """The values of all options: those given, over the defaults.

    Args:
      where: the place in the config that the values come from, such as "config.model".
      owner: whose options they are, for the message on one that it does not have.

    Raises:
      UserError: a value for no option of the class, or one of another kind or range.
    """
    known = {field.name: field for field in fields(cls)}
    given = dict(values.items())
    for name in given:
        if name not in known:
            of = f"no option of {owner}" if owner else "no option"
            raise UserError(f"{where}.{name} is {of}; choose from {', '.join(known)}")
    return {name: _value(field, given.get(name, field.default), f"{where}.{name}") for name, field in known.items()}


def require(name: str, value: Any, *rules: Rule, kind: type = float) -> None:
    """Raises a UserError unless a value that belongs to no dataclass of options is of a kind and all rules hold.

    Args:
      name: the value's, as a user writes it: "config.knn_k".
      kind: one of :data:`KINDS`.
    """
    if not (_is_kind(value, kind) and all(rule.holds(value) for rule in rules)):
        raise UserError(f"{name}={value!r} must be {_says(kind, rules)}")


def _value(field: dataclasses.Field, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(field.default):
        if value is field.default:
            return value
        return read(type(field.default), value, name)
    require(name, value, *field.metadata["rules"], kind=type(field.default))
    return tuple(value) if isinstance(value, list) else value


def _is_kind(value: Any, kind: type) -> bool:
    if kind is float:
        return _is_number(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, (tuple, list) if kind is tuple else kind)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _says(kind: type, rules: tuple[Rule, ...]) -> str:
    """The kind and the rules in words; "one of ..." says the kind as well."""
    said = [rule.says for rule in rules]
    if said and said[0].startswith("one of"):
        return said[0]
    return f"{KINDS[kind]} {' and '.join(said)}".strip()


def _plain(default: Any) -> Any:
    return defaults(type(default)) | dataclasses.asdict(default) if dataclasses.is_dataclass(default) else default
