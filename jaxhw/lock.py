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
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxhw import files, json_file
from jaxhw.errors import UserError

RENEWED = 15.0  # seconds between two signs of life
LOOK = 1.0  # seconds between two looks at whether another host's owner shows any
STALE = 120.0  # seconds without one after which a process on another host counts as dead
NAME = "lock.json"
_held: set[Path] = set()  # by this process


class InUse(UserError):
    """Another process owns a folder."""


@contextlib.contextmanager
def held(workdir: Path, name: str = NAME, flag: str = "--workdir", patient: bool = False) -> Iterator[None]:
    """Owns a workdir, which is made if need be; a process may take again what it has.

    Args:
      flag: where the folder was named, for messages.
      patient: whether to wait until an owner on another host shows life or counts as dead. A run that was killed may
        come back elsewhere at once, where nothing but silence tells that its former self is dead.

    Raises:
      InUse: another process owns it.
    """
    files.make_folder(workdir, flag)
    path = workdir.resolve() / name
    if path in _held:
        yield
        return
    if patient:
        _outwait(path)
    _take(path, flag)
    _held.add(path)
    ended = threading.Event()
    threading.Thread(target=_renew, args=(path, ended), daemon=True, name="lock").start()
    try:
        yield
    finally:
        ended.set()
        _release(path)


@contextlib.contextmanager
def turn(workdir: Path) -> Iterator[None]:
    """Waits until no other process is within; for moments in which several change what they share."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(workdir, "turn.json"))
                break
            except InUse:
                time.sleep(0.05)
        yield


def in_use(workdir: Path) -> bool:
    """Whether another process owns a workdir."""
    path = workdir.resolve() / NAME
    return path not in _held and path.exists() and not _is_dead(path, _read(path))


def release_all() -> None:
    """Gives up what this process owns, for one that ends without leaving what it is in."""
    for path in tuple(_held):
        _release(path)


def _release(path: Path) -> None:
    _held.discard(path)
    if _me().items() <= _read(path).items():  # unless it was taken for dead: then the lock is another's
        path.unlink(missing_ok=True)


def _outwait(path: Path) -> None:
    """Returns when the owner on another host has shown life, or counts as dead."""
    owner, silent = _read(path), _age(path)
    if _is_here(owner) or silent > STALE:
        return
    wait = f"waiting up to {STALE - silent:.0f} s for a sign of life"
    print(f"{path.parent} belongs to {_who(owner)}, seen {silent:.0f} s ago: {wait}", file=sys.stderr, flush=True)
    while silent <= STALE:
        time.sleep(LOOK)
        before, silent = silent, _age(path)
        if silent < before:
            return


def _take(path: Path, flag: str) -> None:
    """Creates the lock, in the place of one whose process is dead."""
    with _one_at_a_time(path.parent):
        if path.exists():
            owner = _read(path)
            if not _is_dead(path, owner):
                raise InUse(_told(path, owner, flag))
            _remove(path, owner)
        try:
            file = path.open("xb", buffering=0)  # O_EXCL: also between hosts, only one creates it
        except FileExistsError:
            raise InUse(f"another process has just begun in {path.parent}; choose another {flag}") from None
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


def _remove(path: Path, dead: dict[str, Any]) -> None:
    """Removes a dead process's lock, but not one that a quicker process has put in its place (on shared disks)."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)  # of several that try, one succeeds
        if _read(aside) == dead:
            aside.unlink()
        else:
            aside.rename(path)


def _is_dead(path: Path, owner: dict[str, Any]) -> bool:
    """Whether a lock's process is dead, as far as can be seen from here."""
    return not _runs(owner) if _is_here(owner) else _age(path) > STALE


def _is_here(owner: dict[str, Any]) -> bool:
    me = _me()
    return all(owner.get(name) == me[name] for name in ("host", "namespace"))


def _who(owner: dict[str, Any]) -> str:
    return f"process {owner.get('process', '?')} on {owner.get('host', 'an unknown host')}"


def _told(path: Path, owner: dict[str, Any], flag: str) -> str:
    """Who owns a folder, since when, and what to do."""
    since = f" since {owner['since']}" if "since" in owner else ""
    advice = f"wait for its end, stop it, or choose another {flag}"
    if not _is_here(owner):
        silent = min(_age(path), STALE)
        wait = max(1, round(STALE - silent))
        advice += f"; it was seen {silent:.0f} s ago: if it is dead, try again in {wait} s or delete {path}"
    return f"{path.parent} is in use by {_who(owner)}{since}: {advice}"


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
