"""What a program asks of a chip: operations, bytes of its memory, bytes to other chips; in all and by lines of code."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxhw.cost import Operation
from jaxhw.plan.traffic import COLLECTIVES, Move

PACKAGE = Path(__file__).parent.parent
PLANNING = ("plan", "commands")  # rooms whose code only plans a program
CALLERS = 2  # places that name a line: itself and who called it, since one line makes every product


class Line(NamedTuple):
    """A line of code (with its caller), and what it asks of a chip in a call of the program."""

    place: str
    flops: float
    hbm: float


class Collective(NamedTuple):
    """What chips tell each other because of a line of code.

    Attributes:
      count: how often in a call of the program.
      payload: bytes of the operands.
      sent: bytes that a chip sends, along a ring of those that have part.
    """

    kind: str
    place: str
    count: int
    payload: float
    sent: float


class Counts(NamedTuple):
    """Of one chip, in a call of the program."""

    lines: list[Line]
    collectives: list[Collective]

    @property
    def flops(self) -> float:
        return sum(line.flops for line in self.lines)

    @property
    def hbm(self) -> float:
        """Bytes read and written."""
        return sum(line.hbm for line in self.lines)

    @property
    def sent(self) -> float:
        """Bytes to other chips."""
        return sum(collective.sent for collective in self.collectives)


def count(operations: Iterable[Operation], moves: Iterable[Move], chips: int) -> Counts:
    """Operations (of all chips together) and moves (of one) by the lines that they come from."""
    flops, hbm = defaultdict(float), defaultdict(float)
    for operation in operations:
        flops[place(_stack(operation.equation))] += operation.flops / chips
    collectives: dict[tuple[str, str], Collective] = {}
    for move in moves:
        where = place([(frame.file, frame.line, frame.function) for frame in move.stack])
        hbm[where] += move.hbm
        if move.collective:
            before = collectives.get((move.collective, where), Collective(move.collective, where, 0, 0.0, 0.0))
            sent = COLLECTIVES[move.collective](move.group or chips) * move.payload
            collectives[move.collective, where] = before._replace(
                count=before.count + move.times, payload=before.payload + move.payload, sent=before.sent + sent
            )
    lines = [Line(where, flops[where], hbm[where]) for where in {**flops, **hbm}]
    return Counts(lines, sorted(collectives.values(), key=lambda c: -c.sent))


def _stack(equation: Any) -> list[tuple[str, int, str]]:
    """(file, line, function) of an equation, innermost first."""
    traceback = equation.source_info.traceback
    return [(f.file_name, f.line_num, f.function_name) for f in traceback.frames] if traceback else []


def place(stack: Sequence[tuple[str, int, str]]) -> str:
    """The innermost line that is no library's, and its caller: "vision/models/layers.py:71 in matmul, from ...".

    The compiler's own operations come from nowhere: "(the compiler's)".
    """
    own = [(Path(file), line, function) for file, line, function in stack if _is_own(file)]
    named = [f"{_short(file)}:{line} {function.split('.')[-1]}" for file, line, function in own[:CALLERS]]
    return " < ".join(named) or "(the compiler's)"


def _is_own(file: str) -> bool:
    """Whether it is neither a library's nor of what only plans the program."""
    path = Path(file)
    if any(path.is_relative_to(PACKAGE / room) for room in PLANNING):
        return False
    return path.is_relative_to(PACKAGE) or "site-packages" not in file


def _short(file: Path) -> Path:
    return file.relative_to(PACKAGE) if file.is_relative_to(PACKAGE) else Path(file.name)
