"""Trains what a config describes: ``python -m jaxhw.main --config=configs/vit.py --workdir=runs/vit``.

Flags: ``--config=FILE[:variant]`` (or the bare name of a config that comes with the package), ``--workdir=DIR``,
``--config.key=value`` for any key. The same command again continues a run that was stopped.

Several processes share a run where SLURM, Open MPI, Kubernetes or a Cloud TPU has started them, or with
``--coordinator=HOST:PORT`` (where process 0 listens), ``--processes=N`` and ``--process=I`` (this one, from 0).

Exit codes: 0 finished or stopped on request; 2 bad input or a run that failed: weights that are not finite, features
that collapsed; 75 another process of the run is lost: the same commands continue it.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxhw.errors import UserError, exit_code
from jaxhw.process import restart_with_huge_pages


def run(argv: Sequence[str]) -> None:
    """Parses the flags, builds the task and trains it."""
    if {"-h", "-help", "--help"} & set(argv):
        print(__doc__)
        return
    import jax

    from jaxhw import config as configs
    from jaxhw import files, job, joining, task, train
    from jaxhw import mesh as meshes

    set_up()
    config, rest = configs.parse(argv, "task", workdir="", **job.FLAGS)
    if not rest["workdir"]:
        raise UserError("no workdir given; choose where the run goes with --workdir=DIR")
    workdir = files.path(rest.pop("workdir"))
    with joining.joined(job.find(rest)):
        mesh = meshes.of_config(config)
        meshes.check_batch_size(config.batch_size, mesh, config.accumulate)
        results = train.run(task.make(config, mesh), config, mesh, workdir)
        if results and jax.process_index() == 0:
            print(summary(results, workdir))
    if results.get("collapsed"):
        raise UserError(f"{workdir} has collapsed: its features or projections are nearly the same for all images")


def summary(results: dict, workdir: Path) -> str:
    """The last lines of a run: its final numbers and where its files lie."""
    numbers = {name: value for name, value in results.items() if isinstance(value, float) and name != "epochs"}
    shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    pictures = ", ".join(str(path) for path in sorted(workdir.glob("*.png")))
    return f"{shown}\nresults: {workdir / 'results.json'}\npictures: {pictures or 'none'}"


def set_up() -> None:
    """Keeps compiled programs in ``$JAX_COMPILATION_CACHE_DIR`` or ``~/.cache/jaxhw/xla``: a second start is quick.

    Silences the checkpoint writer's log: what goes wrong there is raised as well.
    """
    import jax

    logging.getLogger("absl").setLevel(logging.CRITICAL)
    sys.unraisablehook = _print_unraisable
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/jaxhw/xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _print_unraisable(failure: Any) -> None:
    """Python's report of an error that nobody can catch, but for those of the checkpoint writer's threads.

    When one array of a checkpoint cannot be written, its event loop closes, and the thread of each other array would
    print a traceback of six lines because of that.
    """
    if str(failure.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(failure)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    return exit_code(lambda: run(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    restart_with_huge_pages()
    sys.exit(main())
