"""What a compiled program moves: bytes between a chip's units and its HBM, and between chips.

Each instruction of the entry counts, and those of loops' bodies as often as these run; of a branch the costlier side
does. What happens within a fusion stays beside the units: only what it reads and writes counts, of what it slices or
updates only that part.

A TPU's collective may go on while other work is done: one fusion starts it, each of those that carry it on names it
again beside work of its own, and one ends it. It counts once, where it starts.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jaxhw.plan.hlo import Computation, Frame, Instruction, Module

# What moves nothing itself. A `*-start` is counted where it is done.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
FREE |= {"opt-barrier", "while", "conditional", "call"}
# Custom calls that give an array a place or another form, and move nothing.
STILL = {"AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound"}
SLICES = {"slice", "dynamic-slice", "gather"}
# How two kinds of fusions' names begin: a sum of which each chip keeps its part; work that carries a collective on.
REDUCE_SCATTER, CARRYING = "all-reduce-scatter", "async_collective_fusion"
# Bytes that each of n chips sends for each byte of an operand, along a ring.
COLLECTIVES = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-gather": lambda n: n - 1,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
}


@dataclass(frozen=True)
class Move:
    """What an instruction moves, all times that it runs.

    Attributes:
      times: how often it runs.
      hbm: bytes read from and written to HBM, on a chip.
      collective: the kind of the collective that it is, if it is one.
      payload: bytes of the operands of a collective, on a chip.
      group: how many chips have part in a collective; 0: all.
      stack: where it comes from, the innermost frame first.
    """

    times: int
    hbm: float
    collective: str
    payload: float
    group: int
    stack: tuple[Frame, ...]


def moves(module: Module) -> list[Move]:
    """Of the whole program."""
    return list(_of_computation(module, module.entry, 1))


def _of_computation(module: Module, name: str, times: int) -> Iterator[Move]:
    computation = module.computations[name]
    for instruction in computation.instructions.values():
        called = instruction.called
        if instruction.opcode == "while":
            yield from _of_computation(module, called["body"][0], times * module.trips(instruction))
        elif instruction.opcode == "conditional":
            branches = [list(_of_computation(module, branch, times)) for branch in called["branches"]]
            yield from max(branches, key=lambda moved: sum(move.hbm for move in moved))
        elif instruction.opcode in ("call", "async-start"):
            for inner in (*called.get("to_apply", ()), *called.get("calls", ())):
                yield from _of_computation(module, inner, times)
        else:
            yield from _of_instruction(module, computation, instruction, times)


def _of_instruction(module: Module, computation: Computation, i: Instruction, times: int) -> Iterator[Move]:
    kind, payload, group = _collective(module, computation, i)
    hbm = _hbm(module, computation, i)
    if kind or hbm:
        yield Move(times, times * hbm, kind, times * payload, group, _stack(module, computation, i))


def _stack(module: Module, computation: Computation, i: Instruction, steps: int = 3) -> tuple[Frame, ...]:
    """Where an instruction comes from; a copy that the compiler adds comes from what uses it, a few steps on."""
    if i.frame in module.stacks or not steps:
        return module.stacks.get(i.frame, ())
    found = (_stack(module, computation, use, steps - 1) for use in computation.uses(i.name))
    return next(filter(None, found), ())


def _collective(module: Module, computation: Computation, i: Instruction) -> tuple[str, float, int]:
    """(kind, bytes of its operands, chips that have part) of a collective, which may lie within a fusion."""
    kind = i.opcode.removesuffix("-start")
    if kind in COLLECTIVES:
        return kind, sum(computation.instructions[name].size for name in i.operands), i.group
    for inner in i.called.get("calls", ()) if i.opcode == "fusion" else ():
        fused = module.computations[inner]
        if inner.startswith(CARRYING) or _ends(fused):
            continue
        for part in fused.instructions.values():
            kind, payload, group = _collective(module, fused, part)
            if kind:
                return ("reduce-scatter" if inner.startswith(REDUCE_SCATTER) else kind), payload, group
    return "", 0.0, 0


def _ends(fused: Computation) -> bool:
    """Whether a fusion is the end of a collective that another one started."""
    return any(part.target == "AsyncCollectiveDone" for part in fused.instructions.values())


def _hbm(module: Module, computation: Computation, i: Instruction) -> float:
    operands = [computation.instructions[name] for name in i.operands if name in computation.instructions]
    if i.opcode in FREE or i.opcode.endswith("-start") or i.target in STILL:
        return 0.0
    if i.opcode.endswith("-done"):
        return 0.0 if operands[0].opcode == "async-start" else _done(computation, i, operands[0])
    if i.opcode == "fusion":
        name = i.called["calls"][0]
        inner = module.computations[name]
        if _ends(inner):
            return 0.0
        inner = _own(inner) if name.startswith(CARRYING) else inner
        reads = zip(operands, inner.parameters(), strict=False)
        read = sum(_read(module, inner, parameter) for operand, parameter in reads if operand.hbm)
        return read + _written(inner, i)
    if i.opcode in SLICES:
        return i.hbm + (i.size if operands[0].hbm else 0)
    if i.opcode == "dynamic-update-slice":  # in its place
        return 2 * operands[1].size if i.hbm else operands[1].hbm
    return i.hbm + sum(operand.hbm for operand in operands)


def _own(carrying: Computation) -> Computation:
    """What a fusion does beside the collective that it carries on, whose arrays it takes and hands on."""
    arrays = {i.name for i in carrying.instructions.values() if i.opcode in ("parameter", *COLLECTIVES)}
    own = {name: i for name, i in carrying.instructions.items() if i.opcode not in COLLECTIVES}
    root = carrying.root
    kept = [n for n, operand in enumerate(root.operands) if operand not in arrays]
    changed = {"operands": tuple(root.operands[n] for n in kept), "arrays": tuple(root.arrays[n] for n in kept)}
    return Computation(own | {root.name: replace(root, **changed)})


def _done(computation: Computation, done: Instruction, start: Instruction) -> float:
    """What an asynchronous copy, slice or collective has moved: as many bytes as arrive."""
    source = [computation.instructions[name] for name in start.operands if name in computation.instructions]
    return done.hbm + (done.size if any(operand.hbm for operand in source) else 0)


def _read(module: Module, fused: Computation, value: Instruction) -> float:
    """Bytes of a value that a fusion reads: all of it, unless every use takes a part."""
    total = 0.0
    for use in fused.uses(value.name):
        if use.opcode in SLICES and use.operands[0] == value.name:
            total += use.size
        elif use.opcode == "dynamic-update-slice" and use.operands[0] == value.name:
            continue
        elif use.opcode == "bitcast" and not use.root:
            total += _read(module, fused, use)
        elif use.opcode == "fusion":
            inner = module.computations[use.called["calls"][0]]
            total += _read(module, inner, inner.parameters()[use.operands.index(value.name)])
        else:
            return value.size
    return min(total, value.size)


def _written(fused: Computation, fusion: Instruction) -> float:
    """Bytes that a fusion writes to HBM: of an update in its place the part that is new."""
    root = fused.root
    while root.opcode == "bitcast" and root.operands[0] in fused.instructions:
        root = fused.instructions[root.operands[0]]
    if root.opcode == "dynamic-update-slice":
        return fused.instructions[root.operands[1]].size if fusion.hbm else 0.0
    if root.opcode != "tuple":
        return fusion.hbm
    parts = [fused.instructions[name] for name in root.operands]
    sizes = [fused.instructions[p.operands[1]].size if p.opcode == "dynamic-update-slice" else p.size for p in parts]
    return sum(size for size, array in zip(sizes, root.arrays, strict=True) if array.in_hbm)
