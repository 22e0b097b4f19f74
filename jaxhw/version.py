"""Which version of the code a result belongs to."""

import subprocess
from importlib import metadata
from pathlib import Path


def revision() -> str:
    """The git revision of this code (``-dirty`` with local changes), or the installed version."""
    here = Path(__file__).resolve().parent.parent
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]
        inside = (here / ".git").exists()
        return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip() if inside else version()
    except (OSError, subprocess.CalledProcessError):
        return version()


def version() -> str:
    """The installed version."""
    try:
        return metadata.version("jaxhw")
    except metadata.PackageNotFoundError:
        return "unknown"
