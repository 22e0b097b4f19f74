"""Configs: ml_collections files, ``--config.key=value`` overrides, and their errors in one line.

A config file defines ``get_config(variant="")``, which starts from a task's ``default_config`` and sets what
its experiment changes. The dictionary is locked: a misspelt key is an error there and on the command line.
"""

import contextlib
import copy
import json
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from jaxhw import hints, json_file, optim, options
from jaxhw.errors import UserError

USAGE = "%(prog)s --config=FILE[:VARIANT] [--config.KEY=VALUE ...]"
# What every version has written into config.json, by the key that tells whose it is.
_SCHEMAS = {
    "task": {"task": str, "seed": int, "steps": int, "epochs": float, "batch_size": int, "dtype": str}
    | {"log_every": int, "eval_every": int, "checkpoint_every": int, "optim": {"name": str, "lr": float}},
    "space": {"run": {}, "metric": str, "space": [[object]]},
    "bases": {"bases": {str: {}}, "runs": [[object]], "seeds": [int]},
}
COMMANDS = {"task": "train", "space": "sweep", "bases": "study"}  # by a key that only their configs have


def base(task: str) -> ConfigDict:
    """The keys that every config has. A task's ``default_config`` adds its own.

    ``steps`` or ``epochs`` (a float; ``steps`` wins) sets the length. ``eval_every`` and ``checkpoint_every``
    count steps; 0 means once an epoch. ``batch_size`` is global: over all devices and processes. ``init_from``
    names weights to start from where the task knows how; they are read once, before the first step.
    """
    return ConfigDict(
        {
            "task": task,
            "seed": 0,
            "steps": 0,
            "epochs": 0.0,
            "batch_size": 128,
            "accumulate": 1,  # parts that a batch is cut into, of which each must fit the memory (`accumulation`)
            "dtype": "float32",
            "log_every": 50,
            "eval_every": 0,
            "checkpoint_every": 0,
            "init_from": "",
            "optim": options.defaults(optim.Options),
            # data times fsdp devices are used, or with data=-1 all; fsdp of them share one copy of the parameters and
            # moments (`mesh.over`); cpu_devices: those that a CPU counts as; layout: (path pattern, axis) pairs that
            # divide other parameters among the devices, or along other axes (`mesh.layout`)
            "mesh": {"data": -1, "fsdp": 1, "cpu_devices": 1, "layout": ()},
        }
    ).lock()


def either(default: Any) -> FieldReference:
    """A key whose values may be of several types, such as a number or "auto", for a task to check.

    All other keys keep the type of their default.
    """
    return FieldReference(default, field_type=object)


def steps(config: ConfigDict, steps_per_epoch: float) -> int:
    """The length of a run, by its ``steps`` or ``epochs``; a UserError if it has none."""
    number = config.steps or round(config.epochs * steps_per_epoch)
    if number < 1 and config.epochs and not config.steps:
        raise UserError(
            f"config.epochs={config.epochs:g} is not even half a step: an epoch has {steps_per_epoch:.3g} steps of "
            f"batch_size={config.batch_size}; set it higher, or set config.steps"
        )
    if number < 1:
        raise UserError("the run has no steps; set config.steps or config.epochs")
    return number


def parse(argv: Sequence[str], key: str = "", **strings: str) -> tuple[ConfigDict, dict[str, str]]:
    """Reads ``--config=FILE[:variant]``, ``--config.key=value``... and further string flags from ``argv``.

    The file may import others of its folder as ``from configs import NAME``, wherever that folder lies. The bare name
    of a config that comes with the package does as well: ``--config=vit:digits``.

    Args:
      argv: the arguments without the program's name.
      key: one of COMMANDS that the config must have.
      **strings: name -> default of further flags, such as ``workdir=""``.

    Returns:
      The config, locked, and the further flags' values.

    Raises:
      UserError: no or missing file, one for another command, an unknown flag, key or variant, a value of the wrong
        type.
    """
    argv = [_resolve(argument) for argument in _joined(argv)]
    chosen = [argument for argument in argv if re.match(r"--?config(=|$)", argument)]
    file = chosen[-1].partition("=")[2].split(":")[0] if chosen else ""
    if not file:
        stray = next((hints.argument(a, ()) for a in argv if a.split(":")[0].endswith(".py")), "")
        raise UserError(f"no config given; {stray or 'choose one with --config=FILE, such as configs/vit.py:digits'}")
    if not os.path.isfile(file):
        raise UserError(f"config file {file} does not exist{hints.config_file(file)}")
    with _importable(Path(file).resolve().parent.parent):
        config = _parse(chosen, {})[0]
        if key and key not in config:
            use = next((f": use jaxhw {command}" for k, command in COMMANDS.items() if k in config), "")
            raise UserError(f"{file} is no config for jaxhw {COMMANDS[key]}{use}")
        _check_keys(config, argv)
        return _parse(argv, strings, leaves(config))


def load(path: str | Path) -> ConfigDict:
    """Reads a workdir's ``config.json`` back.

    Raises:
      UserError: the file is missing or damaged, or holds no config.
    """
    path = Path(path)
    advice = "the command that trained there writes it anew when it is deleted; otherwise choose another --workdir"
    try:
        saved = json_file.read(path, {}, advice)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path.parent} is no workdir: it has no {path.name}") from None
    try:
        for key, schema in _SCHEMAS.items():
            if key in saved or not saved:
                json_file.check(saved, schema)
        return ConfigDict(tuples(saved)).lock()
    except (ValueError, TypeError) as error:  # also of ConfigDict, for keys with dots in them
        raise UserError(f"{path} is no config ({_line(error)}); {advice}") from None


def dump(config: ConfigDict) -> str:
    """The text of ``config.json``, which :func:`load` reads."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def with_defaults(saved: ConfigDict, defaults: ConfigDict, path: Path) -> ConfigDict:
    """A config read back from ``path``, with the defaults of options that are younger than it.

    Raises:
      UserError: it has options that this version does not have, or has with values of another type.
    """
    config = copy.deepcopy(defaults).lock()
    try:
        config.update(saved.to_dict())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is of a version of jaxhw with other options ({_line(error)}): use that one") from None
    return config


def changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A copy with some values ("optim.lr") set anew.

    Raises:
      UserError: a key that the config does not have, or a value of another type.
    """
    new = copy.deepcopy(config).unlock()  # with the types of its keys, which `to_dict` would forget
    for key, value in changes.items():
        if key not in leaves(new):
            raise UserError(f"the config has no key {key}; its keys: {', '.join(sorted(new))}")
        try:
            new.update_from_flattened_dict({key: value})
        except TypeError as error:
            raise UserError(f"config.{key}={value!r}: {_line(error)}") from None
    return new.lock()


def _parse(
    argv: Sequence[str], strings: dict[str, str], known: Collection[str] = ()
) -> tuple[ConfigDict, dict[str, str]]:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=list(argv))
    for name, default in strings.items():
        flags.DEFINE_string(name, default, "", flag_values=values)
    try:
        rest = values(["jaxhw", *argv])[1:]
        config = values.config
    except UserError:
        raise
    except flags.UnrecognizedFlagError as error:
        written = next((a for a in argv if re.match(rf"--?{re.escape(error.flagname)}(=|$)", a)), f"--{error.flagname}")
        raise UserError(f"unknown flag {written}; {hints.argument(written, known)}") from None
    except (flags.Error, AttributeError, TypeError, ValueError) as error:
        raise UserError(_line(error)) from None
    except (ImportError, KeyError, SyntaxError) as error:
        raise UserError(f"config file fails: {type(error).__name__}: {_line(error)}") from None
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; {hints.argument(rest[0], leaves(config))}")
    return config.lock(), {name: values[name].value for name in strings}


def _joined(argv: Sequence[str]) -> list[str]:
    """``--config FILE`` as ``--config=FILE``."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in ("--config", "-config"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Lets what runs within import from a folder."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _resolve(argument: str) -> str:
    """``--config=vit:digits`` or ``--config=configs/vit.py:digits`` as a path: in this folder, else in the package."""
    match = re.fullmatch(r"(--?config=)(?:(\w+)|configs/(\w+)\.py)(:.*)?", argument)
    name = match and (match[2] or match[3])
    found = next((file for folder in hints.FOLDERS if (file := folder / f"{name}.py").is_file()), None)
    return f"{match[1]}{found}{match[4] or ''}" if match and found else argument


def _check_keys(config: ConfigDict, argv: Sequence[str]) -> None:
    keys, groups = leaves(config).keys(), _groups(config)
    known = keys | groups
    for argument in argv:
        match = re.match(r"--?(?:no)?config\.([\w.]+)(?P<scalar>=[^{])?", argument)  # {...} may set a whole group
        if match and match[1] not in known:
            meant = hints.key(match[1], known)
            hint = f"did you mean {meant}?" if meant else f"its keys: {', '.join(sorted(config))}"
            raise UserError(f"the config has no key config.{match[1]}; {hint}")
        if match and match[1] in groups and match["scalar"]:
            inner = ", ".join(f"config.{leaf}" for leaf in sorted(keys) if leaf.startswith(f"{match[1]}."))
            raise UserError(f"config.{match[1]} is a group of keys, set one of them: {inner}")


def _groups(config: ConfigDict, prefix: str = "") -> set[str]:
    inner = {key: value for key, value in config.items() if isinstance(value, ConfigDict)}
    return {f"{prefix}{key}" for key in inner}.union(*(_groups(v, f"{prefix}{k}.") for k, v in inner.items()))


def leaves(config: ConfigDict, prefix: str = "") -> dict:
    """Every value by its full key, such as ``optim.lr``."""
    found = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def tuples(value):
    """JSON knows lists only; configs hold tuples only."""
    if isinstance(value, dict):
        return {key: tuples(inner) for key, inner in value.items()}
    return tuple(tuples(inner) for inner in value) if isinstance(value, list) else value


def _line(error: Exception) -> str:
    """The first line of an error's text; the last where ml_collections put a traceback into it."""
    lines = [line for line in str(error).split("\n") if line.strip()] or [""]
    return re.sub(r"^\w+: ", "", lines[-1]) if "Traceback" in str(error) else lines[0]
