"""Several programs timed in turns, each in a process of its own, so that a busy machine slows all of them alike."""

import contextlib
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HUGE_PAGES = "glibc.malloc.hugetlb=1"


def serve(run: Callable[[int], float]) -> None:
    """The worker's side: for each line of standard input, a number of steps, answers what ``run(steps)`` took."""
    run(2)
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = run(int(line))
        print(json.dumps((seconds, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)), flush=True)


def timed(step: Callable[[], None]) -> Callable[[int], float]:
    """For ``serve``: the mean seconds of a step."""

    def run(steps: int) -> float:
        step()  # the others' turns have emptied the caches
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - start) / steps

    return run


class Worker:
    """One variant in its own process, started as ``python script --work *names``.

    Attributes:
      times: seconds a step, one entry a round.
      memory: the most bytes that it ever had in memory.
    """

    def __init__(self, python: str, script: str, *names: str):
        self.names, self.times, self.memory = names, [], 0
        environment = {**os.environ, "GLIBC_TUNABLES": HUGE_PAGES}  # what jaxhw starts itself with, for all sides
        self.process = subprocess.Popen(
            [python, script, "--work", *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.alive = self.process.stdout.readline().startswith("ready")

    @property
    def seconds(self) -> float:
        return statistics.median(self.times)

    def round(self, steps: int) -> None:
        print(steps, file=self.process.stdin, flush=True)
        seconds, self.memory = json.loads(self.process.stdout.readline())
        self.times.append(seconds)

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def take_turns(workers: list[Worker], steps: int, rounds: int) -> list[Worker]:
    """Rounds of all workers that have started, which are returned, stopped."""
    workers = [worker for worker in workers if worker.alive]
    for _ in range(rounds):
        for worker in workers:
            worker.round(steps)
    for worker in workers:
        worker.stop()
    return workers


def processor() -> str:
    """The machine, for the table's caption."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    names = [line for line in text.splitlines() if line.startswith("model name")]
    if not names:
        return platform.processor()
    bf16 = "with" if re.search(r"\b(avx512_bf16|amx_bf16)\b", text) else "without"
    return f"{names[0].split(':')[1].strip()}, {len(names)} cores {bf16} bf16 instructions"


def answer(make: Callable[[str, str, bool], tuple[Callable[[int], None], dict]]) -> None:
    """A worker of many workloads: its side of :class:`Answering`.

    ``make(name, variant, tiny)`` gives a function that runs so many steps and waits for them, and what is known of a
    step. A workload that cannot be made is an answer, too.
    """
    run = None
    for line in sys.stdin:
        question = json.loads(line)
        began = time.perf_counter()
        try:
            if "make" in question:
                run = None  # frees the memory of the one before
                run, known = make(*question["make"])
                run(2)
            else:
                run(question["steps"])
                known = {}
            told = {**known, "seconds": time.perf_counter() - began}
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]}
        print("\n" + json.dumps(told), flush=True)


class Answering:
    """A process that times one workload after the other; ``ask`` may be read by ``answer`` later."""

    def __init__(self, python: str, script: str):
        self.process = subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(question), file=self.process.stdin, flush=True)

    def answer(self) -> dict:
        """What it says to the question asked before; a process that has died says so."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        return {"error": "its process has ended"}

    def stop(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
