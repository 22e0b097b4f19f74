"""Trains runs that build on each other, with several seeds; writes one table and one figure.

jaxhw study --config=configs/study_pretraining.py --workdir=runs/study_pretraining
jaxhw study --config=configs/study_size.py --workdir=runs/size --config.seeds="(0,)" --config.bases.simclr.steps=500
jaxhw study --config=configs/study_size.py --workdir=runs/size --only="* 1 of 16"

Started several times, on one host or on several that see the workdir, it shares the runs.
--only takes the runs of these names (* is any text).
"""

import argparse

from jaxhw import config as configs
from jaxhw import files, job, study
from jaxhw.errors import UserError
from jaxhw.main import set_up

TAKES_CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Names the config's flags and --workdir and --only, which are all it takes."""
    parser.usage = f"{configs.USAGE} --workdir=DIR [--only=NAME]"


def run(args: argparse.Namespace) -> None:
    """Runs or continues the study; prints its table."""
    config, rest = configs.parse(args.flags, "bases", workdir="", only="*")
    if not rest["workdir"]:
        raise UserError("no workdir given; choose where the study goes with --workdir=DIR")
    job.one_process("jaxhw study")
    set_up()
    workdir = files.path(rest["workdir"])
    if not study.run(config, workdir, rest["only"]):
        print("stopped; the same command continues")
        return
    pictures = ", ".join(str(path) for path in sorted(workdir.glob("*.png")))
    print(f"{(workdir / 'table.md').read_text('utf-8')}table: {workdir / 'table.md'}\npictures: {pictures or 'none'}")
