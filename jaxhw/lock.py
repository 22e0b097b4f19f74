"""The owner of a workdir: one process at a time trains in it, on this machine or on another that shares the disk.

A lock is a small JSON file with the owner's process, host and start. Its owner renews the file's time while it lives.
On one host a lock counts as long as its process runs: what ``kill -9`` leaves behind holds nobody up. Of a process on
another host only that sign of life is seen, and the lock counts until it is ``STALE`` seconds old.
"""

import contextlib
import datetime
import fcntl
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxhw import files, json_file
from jaxhw.errors import UserError

RENEWED = 15.0  # seconds between two signs of life
STALE = 120.0  # seconds without one after which a process on another host counts as dead
_held: set[Path] = set()  # by this process


@contextlib.contextmanager
def held(workdir: Path, name: str = "lock.json", flag: str = "--workdir") -> Iterator[None]:
    """Owns a workdir, which is made if need be; a process may take again what it has.

    Args:
      flag: where the folder was named, for messages.

    Raises:
      UserError: another process owns it.
    """
    files.make_folder(workdir, flag)
    path = workdir.resolve() / name
    if path in _held:
        yield
        return
    _take(path, flag)
    _held.add(path)
    ended = threading.Event()
    threading.Thread(target=_renew, args=(path, ended), daemon=True, name="lock").start()
    try:
        yield
    finally:
        ended.set()
        _release(path)


def release_all() -> None:
    """Gives up what this process owns, for one that ends without leaving what it is in."""
    for path in tuple(_held):
        _release(path)


def _release(path: Path) -> None:
    _held.discard(path)
    if _me().items() <= _read(path).items():  # unless it was taken for dead: then the lock is another's
        path.unlink(missing_ok=True)


def _take(path: Path, flag: str) -> None:
    """Creates the lock, in the place of one whose process is dead."""
    with _one_at_a_time(path.parent):
        if path.exists():
            _check_dead(path, flag)
            path.unlink(missing_ok=True)
        try:
            file = path.open("xb", buffering=0)  # O_EXCL: also between hosts, only one creates it
        except FileExistsError:
            raise UserError(f"another process has just begun in {path.parent}; choose another {flag}") from None
        with files.naming(path, path), file:  # on a full disk nobody is to wait for a lock that nobody holds
            file.write(json.dumps(_me() | {"since": f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}"}).encode())


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keeps two processes from replacing a dead one's lock at once, where the file system knows how."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_dead(path: Path, flag: str) -> None:
    """Raises a UserError if the process that a lock names may live."""
    owner, me = _read(path), _me()
    here = all(owner.get(name) == me[name] for name in ("host", "namespace"))
    silent = _age(path)
    if (here and not _runs(owner)) or (not here and silent > STALE):
        return
    who = f"process {owner.get('process', '?')} on {owner.get('host', 'an unknown host')}"
    since = f" since {owner['since']}" if "since" in owner else ""
    advice = f"wait for its end, stop it, or choose another {flag}"
    if not here:
        wait = max(1, round(STALE - silent))
        advice += f"; it was seen {silent:.0f} s ago: if it is dead, try again in {wait} s or delete {path}"
    raise UserError(f"{path.parent} is in use by {who}{since}: {advice}")


def _runs(owner: dict[str, Any]) -> bool:
    """Whether the process that left a lock on this host runs: its number may be another's by now."""
    process = owner.get("process")
    if type(process) is not int or process <= 0 or process == os.getpid():
        return False  # what this process holds it knows; a container gives its processes the same numbers each time
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        pass
    state, began = _stat(process)
    return state not in ("Z", "X") and began in ("", owner.get("began"))  # Z: killed, and its parent has not noticed


def _age(path: Path) -> float:
    """Seconds since a lock's owner renewed it, by the clock of the disk that it lies on."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent) as probe:
            return max(0.0, os.stat(probe.name).st_mtime - path.stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def _renew(path: Path, ended: threading.Event) -> None:
    """Shows every few seconds that the owner lives; a disk that fails now and then is no reason to stop."""
    while not ended.wait(RENEWED):
        with contextlib.suppress(OSError):
            os.utime(path)


def _me() -> dict[str, Any]:
    """This process, and where its number means something: containers may share a host's name, not its processes."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    process = os.getpid()
    return {"process": process, "host": socket.gethostname(), "namespace": namespace, "began": _began(process)}


def _began(process: int) -> str:
    """When a process was started, in the kernel's ticks since boot."""
    return _stat(process)[1]


def _stat(process: int) -> tuple[str, str]:
    """A process's state (R, S, Z...) and when it was started; empty where there is no /proc."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""


def _read(path: Path) -> dict[str, Any]:
    """What a lock says; nothing where it cannot be read, being written just now or damaged."""
    try:
        found = json_file.parse(path.read_bytes())
    except (OSError, json_file.Damaged):
        return {}
    sound = isinstance(found, dict) and all(isinstance(value, (str, int)) for value in found.values())
    return found if sound else {}
