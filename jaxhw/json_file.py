"""JSON as this package writes it, read so that every mistake is one line: no NaN, no endless nesting, no wrong type.

A schema says what a value must be: ``int``, ``float`` (any number), ``str``, ``bool`` or ``object`` (anything); ``[S]``
a list of S; ``{"key": S}`` an object that has these keys (a key that ends in ``?`` may be missing) among others;
``{str: S}`` one whose keys are all free.
"""

import json
import math
from pathlib import Path
from typing import Any

from jaxhw.errors import UserError

DEEPEST = 50  # levels of lists and objects
SAYS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


class Damaged(ValueError):
    """The text is no JSON, or not of the form that its reader needs; the message says what and where."""


def read(path: Path, schema: Any, advice: str, nan_is_null: bool = False) -> Any:
    """The value of a JSON file.

    Args:
      advice: what to do about a damaged one, the end of the message.
      nan_is_null: takes NaN, which is no JSON but which older versions wrote, for null.

    Raises:
      UserError: the file is damaged or of another form.
      FileNotFoundError, NotADirectoryError: there is none.
    """
    try:
        value = parse(path.read_bytes(), nan_is_null)
        check(value, schema)
        return value
    except Damaged as error:
        raise UserError(f"{path} is damaged ({error}); {advice}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, where a file should be; {advice}") from None


def parse(data: bytes, nan_is_null: bool = False) -> Any:
    """The value that the bytes of a JSON text hold.

    Raises:
      Damaged: they are no UTF-8 or no JSON, nest too deeply, or hold a number that is not finite or not of 64 bits.
    """
    constant = (lambda name: None) if nan_is_null else _no_constant
    try:
        value = json.loads(data.decode(), parse_constant=constant, parse_float=_finite, parse_int=_whole)
        _check_depth(value, DEEPEST)
        return value
    except UnicodeDecodeError as error:
        raise Damaged(f"byte {error.start + 1} is no UTF-8") from None
    except json.JSONDecodeError as error:
        raise Damaged(f"line {error.lineno}, column {error.colno} is no JSON") from None
    except RecursionError:
        raise Damaged("its values are nested too deeply") from None


def known(value: Any) -> Any:
    """Numbers for a JSON file: None in the place of those that are not finite, which nobody knows."""
    if isinstance(value, dict):
        return {key: known(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check(value: Any, schema: Any, where: str = "it") -> None:
    """Raises Damaged unless a value is of the form that a schema tells; ``where`` names it in the message."""
    kind = {dict: dict, list: list}.get(type(schema), schema)
    number = kind is float and type(value) in (int, float)
    if not (number or kind is object or type(value) is kind):
        says = {dict: "an object", list: "a list"}.get(kind) or SAYS[kind]
        raise Damaged(f"{where} must be {says}")
    if kind is list:
        for i, inner in enumerate(value):
            check(inner, schema[0], f"{_inside(where)}[{i}]")
    elif isinstance(schema, dict):
        _check_object(value, schema, _inside(where))


def _check_object(value: dict[str, Any], schema: dict[Any, Any], where: str) -> None:
    for key, inner in schema.items():
        names = list(value) if key is str else [key.removesuffix("?")]
        for name in names:
            if name in value:
                check(value[name], inner, f"{where}.{name}".lstrip("."))
            elif not key.endswith("?"):
                raise Damaged(f"it has no {where}.{name}".replace(" .", " "))


def _inside(where: str) -> str:
    return "" if where == "it" else where


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, (dict, list)):
        if not left:
            raise Damaged("its values are nested too deeply")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, left - 1)


def _whole(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= 2**63:
        raise Damaged(f"it holds the number {text[:20]}..., which is too large")
    return int(text)


def _no_constant(name: str) -> None:
    raise Damaged(f"it holds {name}, which is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Damaged(f"it holds the number {text[:20]}..., which is too large")
    return value
