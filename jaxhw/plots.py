"""Pictures of numbers: a run's curves, runs over each other, confusion matrices, sweeps.

Every function writes one PNG through its own Figure: no pyplot, no global state, no display. Accuracies are fractions
in [0, 1] in files and percent in pictures. Lines carry their names at their ends, in their colour. A picture is an
ornament: one that cannot be drawn is a warning, and the run that it belongs to goes on.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from jaxhw import metrics
from jaxhw.ornament import INK, drawn, plain

Rows = Sequence[Mapping[str, Any]]  # the lines of a metrics.jsonl

# Okabe and Ito's colours, which stay apart for every kind of colour vision; their yellow is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SPLITS = {  # what a number's name begins with
    "": ("training", COLOURS[0]),
    "val_": ("validation", COLOURS[1]),
    "test_": ("test", COLOURS[2]),
    "seen_": ("images learnt from", COLOURS[3]),
}
MOST_POINTS = 250  # on a line; a longer series is averaged over stretches


def curves(path: Path, out: Path, names: Sequence[str] = ("accuracy", "loss")) -> None:
    """A panel for each of the `names` of the run whose metrics.jsonl is `path`, over epochs where it counts them.

    A panel shows the number itself (training) and those that begin with val_, test_ and seen_; as dots those that also
    end with _all (of all held-out pictures, not of one). One without numbers is left out; a run with none of them draws
    nothing.
    """
    rows = metrics.read(path)
    panels = [name for name in names if any(_points(rows, s + name, "step")[0].size for s in SPLITS)]
    if not panels:
        return
    x = "epoch" if any("epoch" in row for row in rows) else "step"
    with drawn(out):
        figure, places = _panels(len(panels))
        for axes, name in zip(places, panels, strict=True):
            lines = [(_points(rows, s + name, x), label, colour, "-") for s, (label, colour) in SPLITS.items()]
            lines += [(_points(rows, f"{s}{name}_all", x), f"all of {n}", c, "none") for s, (n, c) in SPLITS.items()]
            _panel(axes, lines, x, name)
        _save(figure, out)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, three side by side at most."""
    rows = -(-count // 3)
    columns = -(-count // rows)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in places[count:]:
        axes.remove()
    return figure, places[:count]


def compare(runs: Mapping[str, Rows], out: Path) -> list[Path]:
    """Runs over each other, as name -> lines of metrics.jsonl; returns the pictures written into the folder `out`.

    accuracy.png, knn_accuracy.png and loss.png over epochs (steps, if a run counts none), the same with _time over
    wall-clock time. A run's line is that of its validation split, else of its test split (marked so if the others are
    validation); the thin dashed line is training. A number that no run has gives no picture.
    """
    out.mkdir(parents=True, exist_ok=True)
    x = "epoch" if all(any("epoch" in row for row in rows) for rows in runs.values()) else "step"
    written = []
    for name in ("accuracy", "knn_accuracy", "loss"):
        for axis, suffix in ((x, ""), ("time", "_time")):
            lines, title = _compared(runs, name, axis)
            if lines:
                picture = out / f"{name}{suffix}.png"
                with drawn(picture):
                    room = 0.075 * max(len(label or "") for _, label, *_ in lines)  # inches
                    figure = Figure(figsize=(5.6 + room, 4.0), layout="constrained")
                    axes = figure.subplots()
                    _panel(axes, lines, axis, name)
                    axes.set_title(plain(title), color=INK, fontsize=9)
                    _save(figure, picture)
                    written.append(picture)
    return written


def confusion_matrix(matrix: np.ndarray, names: Sequence[str], path: Path) -> None:
    """The share of each true class (a row of `matrix`, [c, c] counts) that was taken for each class (a column).

    Up to 20 classes have their percentages written into the cells; names are left out above 120 classes. The colour
    follows the square root of the share, so that rare confusions show.
    """
    matrix = np.asarray(matrix, np.float64)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    c = len(share)
    side, size = (2.6 + 0.42 * c, 8) if c <= 20 else (10.5, 5.5 if c <= 120 else 8)
    with drawn(path), matplotlib.rc_context({"axes.grid": False, "font.size": size}):
        figure = Figure(figsize=(side, side * 0.92), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
        if c <= 120:
            turn = {"rotation": 90} if c > 20 else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
            labels = [plain(name) for name in names]
            axes.set_xticks(range(c), labels, **turn)
            axes.set_yticks(range(c), labels)
            axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for i, j in np.argwhere(share >= 0.005) if c <= 20 else ():
            ink = "white" if share[i, j] > 0.4 else INK
            axes.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", color=ink, fontsize=7.5)
        axes.set_xlabel("predicted class", fontsize=10)
        axes.set_ylabel("true class", fontsize=10)
        bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, format=_percent)
        bar.set_label("of the true class", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        _save(figure, path)


def sweep(rows: Rows, keys: Sequence[str], metric: str, path: Path) -> None:
    """A sweep's trials: `metric` (each row's "value", None if it has none) over each of the hyperparameters `keys`.

    The first row is the best one, which is ringed.
    """
    rows = [row for row in rows if row["value"] is not None]
    if not rows:
        return
    best = rows[0]
    with drawn(path):
        figure = Figure(figsize=(max(3.0 * len(keys), 3.6), 3.2), layout="constrained")
        for axes, key in zip(figure.subplots(1, len(keys), sharey=True, squeeze=False)[0], keys, strict=True):
            have = [row for row in rows if key in row]
            x = _abscissae(axes, [row[key] for row in have])
            axes.scatter(x, [row["value"] for row in have], s=22, color=COLOURS[0], alpha=0.7, linewidths=0)
            around = [at for at, row in zip(x, have, strict=True) if row is best]
            axes.scatter(around, [best["value"]] * len(around), s=70, facecolors="none", edgecolors=COLOURS[1])
            axes.set_xlabel(plain(key))
        first = figure.axes[0]
        first.set_ylabel(plain(metric))
        first.set_title(f"best: {best['value']:.4g}", color=COLOURS[1], fontsize=9)
        if "accuracy" in metric:
            first.yaxis.set_major_formatter(_percent)
        _save(figure, path)


def points(series: Mapping[str, Sequence[tuple[float, float, float]]], x: str, path: Path) -> None:
    """Numbers over x (on a logarithmic scale), each of the `series` a line through (x, mean, deviation)."""
    with drawn(path):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes, ends = figure.subplots(), []
        axes.set_xscale("log")
        ticks = sorted({point[0] for values in series.values() for point in values})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        for (name, values), colour in zip(series.items(), itertools.cycle(COLOURS), strict=False):
            xs, means, deviations = zip(*sorted(values), strict=True)
            axes.errorbar(xs, means, deviations, color=colour, marker="o", markersize=4, capsize=3)
            ends.append((xs[-1], means[-1], name, colour))
        axes.set_xlabel(plain(x))
        if all("accuracy" in name for name in series):
            axes.yaxis.set_major_formatter(_percent)
        _label(axes, ends)
        _save(figure, path)


def _abscissae(axes: Axes, values: Sequence[Any]) -> Sequence[float]:
    """Where the values lie: names and a handful of distinct numbers side by side, else to scale, log over a decade."""
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    distinct = sorted(set(values), key=None if numbers else str)
    if not numbers or len(distinct) <= 6:
        labels = [_short(v) if numbers else plain(str(v)) for v in distinct]
        axes.set_xticks(range(len(distinct)), labels, rotation=30 if sum(map(len, labels)) > 24 else 0)
        axes.set_xlim(-0.5, len(distinct) - 0.5)
        return [distinct.index(v) for v in values]
    if distinct[0] > 0 and distinct[-1] > 10 * distinct[0]:
        axes.set_xscale("log")
    else:
        axes.locator_params(axis="x", nbins=4)  # labels such as 0.0005 are broad
    return values


def _short(number: float) -> str:
    """A number as it is, or rounded where that has too many digits for a tick."""
    return text if len(text := f"{number:g}") <= 6 else f"{number:.2g}"


def _percent(fraction: float, _=None) -> str:
    return f"{round(100 * fraction, 6):g}%"


def _points(rows: Rows, key: str, x: str) -> tuple[np.ndarray, np.ndarray]:
    """Abscissae and values of the lines that have both, averaged over stretches where there are very many."""
    found = [(row[x], row[key]) for row in rows if row.get(key) is not None and row.get(x) is not None]
    points = np.array(found, np.float64).reshape(-1, 2)
    points = np.array(
        [part.mean(0) for part in np.array_split(points, min(len(points), MOST_POINTS) or 1) if len(part)]
    )
    return tuple(points.reshape(-1, 2).T)


def _compared(runs: Mapping[str, Rows], name: str, x: str) -> tuple[list, str]:
    """The lines of one comparison and the sentence that says which split they are."""
    lines, splits = [], {}
    for i, (run, rows) in enumerate(runs.items()):
        evaluated = {s: _points(rows, s + name, x) for s in ("val_", "test_")}
        split = next((s for s, points in evaluated.items() if points[0].size), None)
        colour = COLOURS[i % len(COLOURS)]
        training = _points(rows, name, x)
        if training[0].size:
            lines.append((training, None if split else f"{run} (training)", colour, (0, (2, 2))))
        if split:
            splits[run] = SPLITS[split][0]
            lines.append((evaluated[split], run, colour, "-"))
    if len(set(splits.values())) > 1:
        lines = [(p, f"{run} ({splits[run]})" if run in splits else run, c, style) for p, run, c, style in lines]
    solid = " or ".join(sorted(set(splits.values()), reverse=True))
    parts = [f"{solid} (solid)"] if solid else []
    parts += ["training (dashed)"] if any(style != "-" for *_, style in lines) else []
    return lines, f"{name}: {', '.join(parts)}"


def _panel(axes: Axes, lines: Sequence[tuple], x: str, name: str) -> None:
    """Draws ((x, y), label or None, colour, dashes; "none" for dots) and writes the labels at the right ends."""
    unit, scale = _time_unit(lines) if x == "time" else (x, 1.0)
    ends = []
    for (xs, ys), label, colour, dashes in lines:
        if xs.size:
            style = {"marker": "o", "markersize": 3} if xs.size == 1 else {}
            style = {"marker": "o", "markersize": 6, "zorder": 4, "clip_on": False} if dashes == "none" else style
            faint = {"linewidth": 0.9, "alpha": 0.65} if dashes not in ("-", "none") else {}
            axes.plot(xs / scale, ys, color=colour, linestyle=dashes, **style, **faint)
            if label:
                ends.append((xs[-1] / scale, ys[-1], label, colour))
    axes.set_xlabel(unit)
    axes.set_ylabel(name.replace("_", " "))
    axes.set_xlim(0, max((points[0][-1] for points, *_ in lines if points[0].size), default=1.0) / scale)
    if name.endswith("accuracy"):
        axes.yaxis.set_major_formatter(_percent)
        axes.set_ylim(bottom=0)
    _label(axes, ends)


def _label(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes each (x, y, label, colour) behind its line's end, none at the height of another."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    line = 0.062 * (high - low)  # the height of a line of text
    ends = sorted(ends, key=lambda end: end[1])
    heights = [y for _, y, *_ in ends]
    for i in range(1, len(ends)):
        heights[i] = max(heights[i], heights[i - 1] + line)
    limit = high
    for i in reversed(range(len(ends))):  # what was pushed out at the top comes down again
        heights[i] = min(heights[i], limit)
        limit = heights[i] - line
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for (x, _, label, colour), y in zip(ends, heights, strict=True):
        axes.annotate(
            plain(label), (x, y), (5, 0), textcoords="offset points",
            color=colour, va="center", annotation_clip=False, path_effects=halo, zorder=5,
        )  # fmt: skip


def _time_unit(lines: Sequence[tuple]) -> tuple[str, float]:
    """The axis' label and the seconds in its unit."""
    longest = max((points[0][-1] for points, *_ in lines if points[0].size), default=0.0)
    return next(
        (f"time ({unit})", scale)
        for unit, scale in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
        if longest >= 2 * scale or scale == 1.0
    )


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, facecolor="white")
