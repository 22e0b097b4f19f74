"""What of a capture is done: each phase is done once, and again only when what it depends on has changed."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxhw import files, json_file
from jaxhw.errors import UserError
from jaxhw.nerf.scenes import report

SCHEMA = {str: {"key": str, "seconds": float, "result": object}}


def digest(*things: Any) -> str:
    """A short name for values that JSON can hold."""
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=str).encode()).hexdigest()[:16]


def content(path: Path) -> str:
    """A short name for a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Ledger:
    """The finished phases of a capture, kept in a JSON file that is complete at any moment."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.phases = json_file.read(path, SCHEMA, "delete it and start again")
        except FileNotFoundError:
            self.phases = {}
        except UserError as error:
            report.say(f"{error}: all phases are done again")
            self.phases = {}

    def phase(self, name: str, key: str, work: Callable[[], Any], needs: Sequence[Path] = ()) -> Any:
        """What `work` returns (for JSON), or what it returned before if the key is the same.

        Args:
          key: `digest` of all that the phase depends on.
          needs: what the phase has left on the disk; it is done again where that is gone.
        """
        found = self.phases.get(name)
        if found and found["key"] == key and all(path.exists() for path in needs):
            report.say(f"{name}: done before")
            return found["result"]
        self.forget(name)
        started = time.perf_counter()
        result = work()
        self.phases[name] = {"key": key, "seconds": round(time.perf_counter() - started, 1), "result": result}
        self._write()
        return result

    def result(self, name: str) -> Any:
        """What a phase returned when it was last done, whatever has changed since; None if it never was."""
        return self.phases.get(name, {}).get("result")

    def forget(self, name: str) -> None:
        """A phase that begins anew is not done, also if it is cut off."""
        if self.phases.pop(name, None):
            self._write()

    def seconds(self) -> dict[str, float]:
        return {name: phase["seconds"] for name, phase in self.phases.items()}

    def _write(self) -> None:
        files.write_json(self.path, json_file.known(self.phases))
