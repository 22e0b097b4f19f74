"""Trains what a config describes; the same command again continues a stopped run.

jaxhw train --config=configs/vit.py --workdir=runs/vit --config.optim.lr=0.001
"""

import argparse

from jaxhw import config as configs
from jaxhw import main

TAKES_CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Names the config's flags, which :mod:`jaxhw.main` reads."""
    parser.usage = f"{configs.USAGE} --workdir=DIR"


def run(args: argparse.Namespace) -> None:
    """Trains."""
    main.run(args.flags)
