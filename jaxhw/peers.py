"""The other processes of a run: who is lost, told in one line, and then the end of this process.

Where one process of several is killed, frozen or cut off, the others wait for its share of a sum that never comes. So
each shows every few seconds that it lives, in the key-value store that JAX's coordinator (process 0) keeps for all, and
looks whether the others do.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from typing import Any, NamedTuple, NoReturn

from jaxhw import lock, streams
from jaxhw.relay import Relay

LOST = 75  # the exit code, sysexits.h's EX_TEMPFAIL: the same command may well succeed when it is run again
BEAT = 2.0  # seconds between two signs of life
SILENCE = 25.0  # seconds without one after which a process counts as lost
GOODBYE = 3 * BEAT  # seconds in which all hear what one process has said last
_FOLDER = "jaxhw/peers/"


class Verdict(NamedTuple):
    """Why this process ends, and with which exit code."""

    line: str
    code: int


class Peers:
    """Watches the others from two threads; ends this process when one of them is lost.

    Args:
      client: of JAX's coordination service; its calls may block for as long as the coordinator is silent.
      relay: the way to the coordinator; None in the process that is the coordinator.
    """

    def __init__(self, client: Any, index: int, count: int, relay: Relay | None):
        self._client, self._index, self._relay = client, index, relay
        # What is told to the others: "alive", "failed", or "lost" and the verdict.
        self._word: dict[str, Any] = {"host": socket.gethostname(), "state": "alive"}
        self._said: dict[int, dict[str, Any]] = {i: {} for i in range(count) if i != index}
        self._heard = dict.fromkeys(self._said, time.monotonic())
        self._closed, self._ending = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._watch)]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Returns when all processes have come here, and watches no more."""
        self._client.wait_at_barrier("jaxhw/finish", 2**31 - 1)  # for ever: the watch goes on meanwhile
        self._closed.set()
        for thread in self._threads:
            thread.join(GOODBYE)

    def fail(self) -> None:
        """Tells the others that this process ends by an error of its own."""
        self._word |= {"state": "failed"}
        time.sleep(GOODBYE)  # the store ends with the coordinator

    def wait_for_verdict(self) -> None:
        """Returns if nobody proves lost in the time that it takes to be sure; else the process ends meanwhile."""
        if self._ending.wait(SILENCE + GOODBYE):
            threading.Event().wait()

    def _beat(self) -> None:
        number = 0
        while not self._closed.is_set():
            number += 1
            with contextlib.suppress(Exception):  # whatever the runtime raises, nothing has been heard
                word = json.dumps(self._word | {"number": number})
                self._client.key_value_set(f"{_FOLDER}{self._index}", word, allow_overwrite=True)
                for key, said in self._client.key_value_dir_get(_FOLDER):
                    self._hear(int(key.rpartition("/")[2]), json.loads(said))
            self._closed.wait(BEAT)

    def _hear(self, index: int, said: dict[str, Any]) -> None:
        if index != self._index and said != self._said[index]:
            self._said[index], self._heard[index] = said, time.monotonic()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._closed.wait(BEAT / 2):
            now = time.monotonic()
            if now - before > SILENCE / 3:  # this process itself was frozen, and heard nobody meanwhile
                self._heard = dict.fromkeys(self._heard, now)
            before = now
            if (verdict := self._verdict(now)) and self._word["state"] != "failed":
                self._end(verdict)

    def _verdict(self, now: float) -> Verdict | None:
        """Who is lost; None as long as nobody is."""
        again = "start all processes again, and the run goes on"
        lost = lambda who, how: Verdict(f"{self._name(who)} {how}: {again}", LOST)
        for index, said in self._said.items():
            state = said.get("state", "alive")
            if state == "lost":  # it has found out a little sooner
                return Verdict(*said["verdict"])
            if state == "failed":
                return Verdict(f"{self._name(index)} has ended by an error of its own, which it tells", 2)
            if state == "alive" and now - self._heard[index] > SILENCE:
                return lost(index, f"has not been heard of for {SILENCE:.0f} s (killed, frozen or cut off)")
        # The end of the coordinator is known at once; but what it has said before is to be read first.
        if self._relay and self._relay.broken.is_set() and not self._closed.wait(BEAT):
            return lost(0, "has ended")
        return None

    def _name(self, index: int) -> str:
        host = self._said[index].get("host")
        return f"process {index} on {host}" if host else f"process {index}"

    def _end(self, verdict: Verdict) -> NoReturn:
        self._ending.set()
        self._word |= {"state": "lost", "verdict": verdict}
        text = f"error: {verdict.line}"
        print(f"\n{text}" if streams.is_terminal() else text, file=sys.stderr, flush=True)
        if not self._relay:
            time.sleep(GOODBYE)  # the store ends with the coordinator
        lock.release_all()
        sys.stdout.flush()
        os._exit(verdict.code)  # the main thread waits for what never comes
