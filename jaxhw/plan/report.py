"""What a terminal shows of plans: a row a slice, why they take so long, and which lines of code do."""

from collections.abc import Sequence

from jaxhw.durations import duration
from jaxhw.plan.counts import Counts, Line
from jaxhw.plan.planning import Plan
from jaxhw.plan.roofline import Roofline
from jaxhw.plan.topology import GIB, Chip

COLUMNS = ("slice", "chips", "batch", "fits", "GiB a chip", "of", "TFLOP", "HBM GB", "collectives", "sent MB")
COLUMNS += ("step ms", "of peak", "a second", "run", "bound by")
MOST = 8  # lines of code that are told


def table(plans: Sequence[Plan]) -> str:
    """A row a slice, in Markdown; times are the least, shares and rates the most that there can be."""
    rows = [COLUMNS, *(_row(plan) for plan in plans)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _row(plan: Plan) -> tuple[str, ...]:
    chip = plan.slice.chip
    about = (plan.slice.name, str(plan.slice.chips), f"{plan.batch:,}", "yes" if plan.fits else "no")
    memory = (f"{plan.memory / GIB:.2f}", f"{chip.hbm / GIB:.0f}")
    if not plan.fits:
        return about + memory + ("",) * (len(COLUMNS) - 6)
    counts, roofline = plan.counts, plan.roofline
    return (
        *about,
        *memory,
        three_digits(counts.flops * plan.slice.chips / 1e12),
        three_digits(counts.hbm / 1e9),
        str(sum(c.count for c in counts.collectives)),
        three_digits(counts.sent / 1e6),
        f"{1e3 * roofline.seconds:.3g}",
        f"{roofline.share:.0%}",
        f"{plan.batch / roofline.seconds:,.0f} {plan.unit}",
        duration(plan.calls * roofline.seconds) if plan.calls and plan.stages == 1 else "",
        roofline.bound,
    )


def three_digits(number: float) -> str:
    """Of what may be large or small, without an exponent where it is large."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def explained(plan: Plan, advise: bool) -> list[str]:
    """What belongs to a row of the table, in lines: collectives, and where asked for the costliest lines of code."""
    told = []
    if plan.stages > 1 and plan.calls:
        told.append(
            f"{plan.slice.name}: the first of {plan.stages} stages of the run; later ones depend on what it learns"
        )
    if plan.counts.collectives:
        told += [f"{plan.slice.name}: chips wait for each other", *_collectives(plan)]
    if advise:
        told += [f"{plan.slice.name}: the lines of code that take longest", *_advice(plan)]
    return told


def _collectives(plan: Plan) -> list[str]:
    """By the lines of code that cause them, the most bytes first."""
    found = plan.counts.collectives
    told = [f"  {c.count} x {c.kind}, {three_digits(c.payload / 1e6)} MB: {c.place}" for c in found[:MOST]]
    rest = len(found) - len(told)
    return told + ([f"  and {rest} lines with less"] if rest > 0 else [])


def _advice(plan: Plan) -> list[str]:
    return [
        f"  {1e3 * seconds:8.3g} ms {bound:7} {line.flops / 1e12:8.3g} TFLOP {line.hbm / 1e9:8.3g} GB  {line.place}"
        for line, seconds, bound in costliest(plan.counts, plan.slice.chip)
    ]


def costliest(counts: Counts, chip: Chip) -> list[tuple[Line, float, str]]:
    """(line, the seconds that it takes at best, what bounds it) of those that take longest."""
    of = lambda line: Roofline.of(Counts([line], []), chip)
    ranked = sorted(((line, of(line)) for line in counts.lines), key=lambda pair: -pair[1].seconds)
    return [(line, roofline.seconds, roofline.bound) for line, roofline in ranked[:MOST]]
