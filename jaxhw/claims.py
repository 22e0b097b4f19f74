"""Whose a workdir is: the config in it says, and a run with another one is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from jaxhw import files
from jaxhw.config import COMMANDS, changed, dump, leaves, load, tuples
from jaxhw.errors import UserError

# Keys of a run that no result depends on, as `claim` takes them.
FREE = ("mesh.", "checkpoint_every:", "data_dir:", "viewer")


def claim(workdir: Path, config: ConfigDict, ignore: tuple[str, ...] = ()) -> None:
    """Makes a workdir this config's by writing its config.json, or checks that it already is.

    Args:
      ignore: keys (or prefixes ending in a dot) that may differ because no result depends on them.

    Raises:
      UserError: the workdir belongs to a config that differs elsewhere.
    """
    path = workdir / "config.json"
    if path.exists():
        saved = load(path)
        if kind := next((COMMANDS[key] for key in COMMANDS if key in config and key not in saved), ""):
            raise UserError(f"{path} is no config for jaxhw {kind}; choose another --workdir")
        differing = [line for line in differences(config, saved) if not line.startswith(ignore)]
        if differing:
            raise UserError(f"{workdir} belongs to another config ({'; '.join(differing)}); choose another --workdir")
        return
    files.make_folder(workdir)
    files.write(path, dump(config))


def move(workdir: Path, config: ConfigDict, keys: Sequence[str]) -> None:
    """Writes into a workdir's config.json where the folders that some keys name lie now."""
    path = workdir / "config.json"
    saved = load(path)
    if any(saved[key] != config[key] for key in keys):
        files.write(path, dump(changed(saved, {key: config[key] for key in keys})))


def differences(ours: ConfigDict, theirs: ConfigDict) -> list[str]:
    """Lines such as ``optim.lr: 0.1 there, 0.2 here`` for every leaf that differs (theirs is 'there').

    Keys that only ours has do not count: options younger than the workdir do not make it another config's.
    """
    here, there = leaves(ConfigDict(tuples(json.loads(dump(ours))))), leaves(theirs)
    return [f"{k}: {there[k]} there, {here.get(k)} here" for k in sorted(there) if here.get(k) != there[k]]
