"""The roofline as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxhw import plots
from jaxhw.ornament import INK, drawn
from jaxhw.plan.planning import Plan
from jaxhw.plan.report import costliest


def draw(plans: Sequence[Plan], path: Path) -> None:
    """Operations a second that a chip can reach over operations a byte of its memory, on logarithmic scales.

    A panel for each kind of chip: its two roofs, a disc for each slice, and as dots the lines of code that take longest
    on the first one.
    """
    plans = [plan for plan in plans if plan.fits and plan.counts.flops and plan.counts.hbm]
    kinds: dict[str, list[Plan]] = {}
    for plan in plans:
        kinds.setdefault(plan.slice.name.split(":")[0], []).append(plan)
    if not kinds:
        return
    with drawn(path):
        figure = Figure(figsize=(5.6 * len(kinds), 4.2), layout="constrained")
        for axes, (kind, group) in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds.items(), strict=True):
            _panel(axes, kind, group)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, facecolor="white")


def _panel(axes: Axes, kind: str, plans: Sequence[Plan]) -> None:
    chip = plans[0].slice.chip
    lines = [line for line, *_ in costliest(plans[0].counts, chip) if line.flops and line.hbm]
    x = [line.flops / line.hbm for line in lines] + [p.counts.flops / p.counts.hbm for p in plans]
    ridge = chip.flops / chip.hbm_rate
    reach = np.geomspace(min(*x, ridge) / 3, max(*x, ridge) * 3, 100)
    axes.loglog(reach, np.minimum(chip.flops, reach * chip.hbm_rate), color=INK)
    roof = lambda at: min(chip.flops, at * chip.hbm_rate)
    for line, at in zip(lines, x, strict=False):
        axes.plot(at, roof(at), "o", color=INK, markersize=4, alpha=0.5)
        name = line.place.split(" ")[0].split("/")[-1]
        axes.annotate(name, (at, roof(at)), (3, -4), textcoords="offset points", fontsize=6, rotation=-60, va="top")
    for i, plan in enumerate(plans):
        at = plan.counts.flops / plan.counts.hbm
        reached = plan.roofline.share * chip.flops
        axes.plot(at, reached, "o", markersize=9, color=plots.COLOURS[i % len(plots.COLOURS)])
        label = f"{plan.slice.name}, batch {plan.batch:,}: {plan.roofline.share:.0%} of peak, {plan.roofline.bound}"
        axes.text(0.98, 0.04 + 0.06 * i, label, transform=axes.transAxes, ha="right", color=plots.COLOURS[i % 7])
    axes.set_title(f"{kind}: {chip.flops / 1e12:g} TFLOP/s, {chip.hbm_rate / 1e9:g} GB/s", color=INK, fontsize=9)
    axes.set_xlabel("operations a byte of HBM")
    axes.set_ylabel("operations a second and chip, at most")
