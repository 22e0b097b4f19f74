"""``jaxhw <command>``: train, eval, predict, params, plan, render, view and others; each with ``--help``."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from jaxhw.errors import UserError, exit_code
from jaxhw.process import restart_with_huge_pages
from jaxhw.version import version

COMMANDS = {
    "capture": "make a posed scene of a video or of photos",
    "train": "train what a config describes (the same as python -m jaxhw.main)",
    "eval": "score a run's newest checkpoint on every image of a split",
    "predict": "name what pictures show",
    "params": "print a model's layers, shapes and parameter counts",
    "plan": "compile a run for TPU slices that nobody has: does it fit, how fast can it be, why",
    "render": "film a trained scene along a path",
    "view": "show a run in a browser, also while it trains",
    "compare": "draw runs over each other and tabulate them",
    "sweep": "search hyperparameters on the validation split",
    "study": "train runs that build on each other; tabulate and draw them",
    "export": "write a run's model for PyTorch, or a scene's points, mesh, cameras or depth",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str):
        raise UserError(f"{message}; see {self.prog} --help")


def run(argv: Sequence[str]) -> None:
    """Chooses the command by the first argument and gives it the others."""
    parser = _Parser(prog="jaxhw", description=__doc__)
    parser.add_argument("--version", action="version", version=f"jaxhw {version()}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser, metavar="command")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    chosen = parser.parse_known_args(argv)[0].command
    module = importlib.import_module(f"jaxhw.commands.{chosen}")
    own = _Parser(prog=f"jaxhw {chosen}", description=module.__doc__, formatter_class=argparse.RawTextHelpFormatter)
    module.add_arguments(own)
    arguments, rest = own.parse_known_args(list(argv)[1:])
    if rest and not getattr(module, "TAKES_CONFIG", False):
        own.error(f"unexpected argument {rest[0]!r}")
    arguments.flags = rest
    module.run(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code: 0, or 2 for bad input."""
    return exit_code(lambda: run(sys.argv[1:] if argv is None else argv))


def script() -> int:
    """The ``jaxhw`` command of an installed package."""
    restart_with_huge_pages()
    return main()


if __name__ == "__main__":
    sys.exit(script())
