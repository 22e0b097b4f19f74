"""Compiling a lowered program for a slice, once: what the compiler gave is kept by program and slice."""

import gzip
import hashlib
import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxhw import files, version

FOLDER = Path("~/.cache/jaxhw/plan")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Compiled(NamedTuple):
    """What the compiler gave.

    Attributes:
      memory: bytes that the program needs on a chip.
      hlo: the compiled program's text; empty where it does not fit.
    """

    memory: float
    hlo: str


class Cache:
    """Compiled programs in a folder, each in a file named by a digest of all it depends on."""

    def __init__(self, folder: Path = FOLDER):
        self.folder = folder.expanduser()

    def path(self, lowered: jax.stages.Lowered, topology: str) -> Path:
        """Where a program lies if it has been compiled, by this version of the code: its lines are in there too."""
        versions = (jax.__version__, metadata.version("libtpu"), version.revision())
        text = "\n".join((*versions, topology, lowered.as_text()))
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json.gz"

    def read(self, path: Path) -> Compiled | None:
        """What lies there; None where there is no sound file."""
        try:
            return Compiled(**json.loads(gzip.decompress(path.read_bytes())))
        except (OSError, EOFError, ValueError, TypeError):
            return None

    def write(self, path: Path, compiled: Compiled) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.complete(path) as partial:
            partial.write_bytes(gzip.compress(json.dumps(compiled._asdict()).encode(), 6))


def compile_for(lowered: jax.stages.Lowered) -> Compiled:
    """Compiles a program; takes up to minutes.

    One that does not fit is no error here: the compiler says how much it would need.
    """
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        needed = memory_needed(str(error))
        if needed is None:
            raise
        return Compiled(needed, "")
    return Compiled(_memory(compiled.memory_analysis()), compiled.as_text())


def _memory(stats: Any) -> float:
    """Bytes on a chip while the program runs; what it takes over from its arguments counts once."""
    own = stats.output_size_in_bytes - stats.alias_size_in_bytes
    return stats.argument_size_in_bytes + own + stats.temp_size_in_bytes + stats.generated_code_size_in_bytes


def memory_needed(message: str) -> float | None:
    """Bytes that a program needs, of the compiler's message that there are not so many; None of other messages."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    size = r"([\d.]+)([KMGT])"
    found = re.search(rf"\({size}\) exceeds available|Used {size} of", message)
    number, unit = [group for group in found.groups() if group] if found else ("inf", "K")
    return float(number) * UNITS[unit]
