"""What a study's config holds, and the check that its runs, seeds and figures go together."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxhw import config as configs
from jaxhw.errors import UserError


def default_config(bases: Mapping[str, ConfigDict]) -> ConfigDict:
    """A study over runs that are changes of ``bases``.

    ``runs`` holds (name, base, ((key, value), ...)), each trained with every seed. A value "@NAME" is the workdir of
    the run of that name, which stands before it, with the same seed.
    """
    return ConfigDict(
        {
            "bases": dict(bases),
            "runs": (),
            "seeds": (0,),
            "columns": ("test_accuracy",),  # of the table
            # the figures: curves over epochs of the runs named (all that have accuracies, if neither curves nor
            # points are named) and, where there are points (x, run) or (x, run, line), the columns over x
            "curves": (),
            "points": (),
            "x": "",  # the points' axis
        }
    ).lock()


def check(config: ConfigDict) -> None:
    """Raises a UserError for a study that contradicts itself."""
    _check_forms(config)
    seen: set[str] = set()
    for name, base, changes in config.runs:
        if base not in config.bases:
            raise UserError(f"config.runs: {name} is a change of {base!r}; there are {', '.join(config.bases)}")
        if name in seen or "/" in name:
            raise UserError(f"config.runs: {name!r} is there twice or has a slash in its name")
        configs.changed(config.bases[base], {k: "" if source(v) else v for k, v in changes})
        for needed in filter(None, (source(value) for _, value in changes)):
            if needed not in seen:
                raise UserError(f"config.runs: {name} needs {needed!r}, which does not stand before it")
        seen.add(name)
    for name in (*config.curves, *(point[1] for point in config.points)):
        if name not in seen:
            raise UserError(f"config.curves and config.points name {name!r}, which is no run")
    if not config.runs or not config.seeds:
        raise UserError("a study needs config.runs and config.seeds")


def _check_forms(config: ConfigDict) -> None:
    """Refuses entries of another form than ``default_config`` tells."""
    forms = {
        "runs": (_is_run, '("name", "base", (("key", value), ...))'),
        "seeds": (lambda seed: isinstance(seed, int) and seed >= 0, "a whole number from 0"),
        "columns": (lambda column: isinstance(column, str), "the name of a number in results.json"),
        "curves": (lambda name: isinstance(name, str), "the name of a run"),
        "points": (is_point, '(x, "run") or (x, "run", "line") with x above 0'),
    }
    for key, (fits, form) in forms.items():
        for entry in config[key]:
            if not fits(entry):
                raise UserError(f"config.{key}: {entry!r} is not {form}")


def _is_run(entry: Any) -> bool:
    match entry:
        case [str(), str(), [*changes]]:
            return all(isinstance(c, Sequence) and len(c) == 2 and isinstance(c[0], str) for c in changes)
    return False


def is_point(entry: Any) -> bool:
    match entry:
        case [int() | float() as x, str()] | [int() | float() as x, str(), str()]:
            return x > 0
    return False


def source(value: Any) -> str:
    """The run that a value "@NAME" names, else an empty string."""
    return value[1:] if isinstance(value, str) and value.startswith("@") else ""
