"""The text of a compiled program (HLO) as computations of instructions.

Only what counting needs is read: shapes with their layouts, operands, the computations that an instruction calls, how
often a loop runs, and the line of Python that an instruction comes from.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from typing import NamedTuple

_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_CALLED = re.compile(r"\b(calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'known_trip_count"?:\{"?n"?:"?(\d+)')
_NAME = re.compile(r"%([\w.-]+)")
# Groups of chips in three forms: axes of a mesh, {count,size}, lists of chips.
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")
_GROUPS, _CHIPS = re.compile(r"replica_groups=\[\d+,(\d+)\]"), re.compile(r"replica_groups=\{\{([\d,]+)\}")


class Array(NamedTuple):
    """An array of an instruction's result.

    Attributes:
      size: bytes, as it lies in memory: padded to whole tiles.
      in_hbm: whether it lies in the chip's large memory, not in one beside its units.
    """

    size: float
    in_hbm: bool


class Frame(NamedTuple):
    """A place in Python."""

    file: str
    line: int
    function: str


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      arrays: of the result; several where it is a tuple.
      operands: names of instructions of the same computation.
      called: names of computations, by what they are for ("calls", "body", "condition", "branches").
      target: of a custom call, the function that is called.
      group: of a collective, how many chips have part in it; 0: all.
      op_name: the path of JAX's operation.
      frame: number of the place that it comes from, 0 where that is not known.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    called: dict[str, tuple[str, ...]]
    target: str
    group: int
    trips: int | None
    op_name: str
    frame: int
    number: int
    root: bool

    @property
    def size(self) -> float:
        """Bytes of the result, wherever it lies."""
        return sum(array.size for array in self.arrays)

    @property
    def hbm(self) -> float:
        """Bytes of the result that lie in HBM."""
        return sum(array.size for array in self.arrays if array.in_hbm)


@dataclass
class Computation:
    """Instructions in their order, by name."""

    instructions: dict[str, Instruction] = field(default_factory=dict)

    @property
    def root(self) -> Instruction:
        return next(i for i in self.instructions.values() if i.root)

    def parameters(self) -> list[Instruction]:
        """In the order of the caller's operands."""
        found = (i for i in self.instructions.values() if i.opcode == "parameter")
        return sorted(found, key=lambda i: i.number)

    def uses(self, name: str) -> Iterator[Instruction]:
        return (i for i in self.instructions.values() if name in i.operands)


@dataclass
class Module:
    """A compiled program: its computations, the entry's name, and the stack of each frame, innermost first."""

    computations: dict[str, Computation]
    entry: str
    stacks: dict[int, tuple[Frame, ...]]

    def trips(self, loop: Instruction) -> int:
        """How often a `while` runs: as the compiler notes, or by the constant in its condition; else once."""
        if loop.trips is not None:
            return loop.trips
        condition = self.computations[loop.called["condition"][0]]
        return max((i.number for i in condition.instructions.values() if i.opcode == "constant"), default=1)


def parse(text: str) -> Module:
    """Reads what `jax.stages.Compiled.as_text()` gives."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.startswith(("%", "ENTRY")) and line.endswith("{"):
            name = _NAME.search(line)[1]
            current = computations[name] = Computation()
            entry = name if line.startswith("ENTRY") else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and " = " in line:
            instruction = _instruction(line)
            current.instructions[instruction.name] = instruction
    return Module(computations, entry, _stacks(text))


def _instruction(line: str) -> Instruction:
    left, _, right = line.strip().partition(" = ")
    end = _closing(right, 0) if right.startswith("(") else right.index(" ")
    shape, rest = right[:end], right[end:].lstrip()
    opcode, _, _ = rest.partition("(")
    end = _closing(rest, len(opcode))
    inside, attributes = rest[len(opcode) + 1 : end - 1], rest[end:]
    called: dict[str, tuple[str, ...]] = {}
    for key, name in _CALLED.findall(attributes):
        key = "branches" if key in ("true_computation", "false_computation") else key
        called[key] = (*called.get(key, ()), name)
    if branches := _BRANCHES.search(attributes):
        called["branches"] = tuple(_NAME.findall(branches[1]))
    patterns = (r'custom_call_target="([^"]*)"', _TRIPS, r'op_name="([^"]*)"', r"stack_frame_id=(\d+)")
    target, trips, op_name, frame = (re.search(pattern, attributes) for pattern in patterns)
    return Instruction(
        name=_NAME.search(left)[1],
        opcode=opcode,
        arrays=tuple(_arrays(shape)),
        operands=tuple(_NAME.findall(inside)),
        called=called,
        target=target[1] if target else "",
        group=_group(attributes),
        trips=int(trips[1]) if trips else None,
        op_name=op_name[1] if op_name else "",
        frame=int(frame[1]) if frame else 0,
        number=int(inside) if re.fullmatch(r"\d+", inside) else 0,
        root=left.startswith("ROOT"),
    )


def _group(attributes: str) -> int:
    """How many chips have part in a collective: those along some axes of a mesh, or of a list; 0: all."""
    if found := _MESH.search(attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return prod(int(part or sizes[axis]) for axis, part in re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2]))
    if found := _GROUPS.search(attributes):
        return int(found[1])
    return len(found[1].split(",")) if (found := _CHIPS.search(attributes)) else 0


def _closing(text: str, start: int) -> int:
    """The place behind the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if not depth:
            return i + 1
    return len(text)


def _arrays(shape: str) -> Iterator[Array]:
    for kind, dims, layout in _ARRAY.findall(shape):
        bits = re.search(r"\d+", kind)
        width = int(bits[0]) / 8 if bits else float(kind == "pred")
        sizes = [int(d) for d in dims.split(",") if d]
        yield Array(width * prod(_padded(sizes, layout)), "S(" not in layout)


def _padded(sizes: Sequence[int], layout: str) -> list[int]:
    """Sizes as they lie in memory: the minor axes are whole tiles."""
    order, _, tiles = layout.partition(":")
    minor_first = [sizes[int(axis)] for axis in order.split(",") if axis] if order else list(sizes[::-1])
    tile = re.match(r"T\(([\d,]+)\)", tiles)
    for i, side in enumerate(reversed(tile[1].split(",")) if tile and len(sizes) > 1 else ()):
        if i < len(minor_first):
            minor_first[i] = ceil(minor_first[i] / int(side)) * int(side)
    return minor_first


def _stacks(text: str) -> dict[int, tuple[Frame, ...]]:
    """The tables of names, places and frames before the first computation."""
    files, functions = (
        {int(i): name for i, name in re.findall(r'^(\d+) "(.*)"$', _section(text, title), re.MULTILINE)}
        for title in ("FileNames", "FunctionNames")
    )
    place = re.compile(r"^(\d+) \{file_name_id=(\d+) function_name_id=(\d+) line=(\d+)", re.MULTILINE)
    places = {
        int(i): Frame(files[int(file)], int(line), functions[int(function)])
        for i, file, function, line in place.findall(_section(text, "FileLocations"))
    }
    link = re.compile(r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?", re.MULTILINE)
    links = {int(i): (int(at), int(parent or 0)) for i, at, parent in link.findall(_section(text, "StackFrames"))}
    # Some versions count parents from 1, so that 1 is none: the first frame never has any.
    none = links[1][1] if 1 in links else 0
    stacks: dict[int, tuple[Frame, ...]] = {}
    for i, (at, parent) in sorted(links.items()):
        stacks[i] = (places[at], *stacks.get(parent - none, ()))
    return stacks


def _section(text: str, title: str) -> str:
    found = re.search(rf"^{title}\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""
