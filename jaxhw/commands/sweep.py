"""Searches hyperparameters on the validation split, then trains the winner once and tests it.

jaxhw sweep --config=configs/sweep_vit.py --workdir=runs/sweep

Started several times, on one host or on several that see the workdir, it shares the trials.
"""

import argparse

from jaxhw import config as configs
from jaxhw import files, job, sweep
from jaxhw import mesh as meshes
from jaxhw.errors import UserError
from jaxhw.main import set_up

TAKES_CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Names the config's flags and --workdir, which are all it takes."""
    parser.usage = f"{configs.USAGE} --workdir=DIR"


def run(args: argparse.Namespace) -> None:
    """Runs or continues the sweep."""
    config, rest = configs.parse(args.flags, "space", workdir="")
    if not rest["workdir"]:
        raise UserError("no workdir given; choose where the sweep goes with --workdir=DIR")
    job.one_process("jaxhw sweep")
    set_up()
    mesh = meshes.of_config(config.run)
    if not sweep.run(config, mesh, files.path(rest["workdir"])):
        print("stopped; the same command continues")
