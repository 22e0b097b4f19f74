"""Draws runs and studies over each other and tabulates them.

jaxhw compare runs/resnet runs/vit --out=runs/compared
jaxhw compare runs/study_size --out=runs/compared

Writes table.md and prints it; draws accuracy.png, knn_accuracy.png and loss.png, over epochs and (_time) over time. A
study gives each of its runs a row, averaged over the seeds that are done, a line if it is one of the study's curves,
and points.png if the study has points.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxhw import files, json_file, metrics, plots, study
from jaxhw.durations import duration
from jaxhw.errors import UserError


class Entry(NamedTuple):
    """A line and a row: a run, or a study's run with all its seeds."""

    lines: list[dict[str, Any]]  # of metrics.jsonl
    facts: dict[str, list[Any]]  # key of COLUMNS -> the values that the seeds' files hold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN RUN ... --out."""
    which = "a run's or study's workdir, also unfinished"
    parser.add_argument("runs", nargs="+", type=files.path, metavar="RUN", help=which)
    parser.add_argument("--out", type=files.path, required=True, help="where the pictures and the table go")


def run(args: argparse.Namespace) -> None:
    """Writes the pictures and the table; prints the table."""
    entries, points, axes = {}, {}, {}
    folders = _names(args.runs)
    for name, folder in folders.items():
        view = study.read_view(folder)
        found = _of_study(folder, view) if view else {name: _entry([folder])}
        if not any(entry.facts["steps"] for entry in found.values()):
            raise UserError(f"{folder} holds no numbers to compare: no metrics.jsonl with lines, no results")
        prefix = f"{name}: " if view and len(folders) > 1 else ""
        entries |= {prefix + run: entry for run, entry in found.items()}
        if view and view["points"]:
            points |= {prefix + column: series for column, series in study.points(view).items()}
            axes[view["x"]] = True
    files.make_folder(args.out, "--out")
    table = _table([{"run": [name], **entry.facts} for name, entry in entries.items()])
    pictures = plots.compare({name: entry.lines for name, entry in entries.items() if entry.lines}, args.out)
    if points:
        pictures.append(args.out / "points.png")
        plots.points(points, " or ".join(axes), pictures[-1])
    files.write(args.out / "table.md", table)
    print(table)
    print("written: " + ", ".join(str(path) for path in [args.out / "table.md", *pictures]))


def _names(folders: list[Path]) -> dict[str, Path]:
    """Names for the runs: the folders' last parts, or as much of the paths as tells them apart."""
    unique = list(dict.fromkeys(folder.resolve() for folder in folders))
    for parts in range(1, max(len(folder.parts) for folder in unique) + 1):
        names = ["/".join(folder.parts[-parts:]) for folder in unique]
        if len(set(names)) == len(unique):
            break
    return dict(zip(names, unique, strict=True))


def _of_study(folder: Path, view: Mapping[str, Any]) -> dict[str, Entry]:
    """The runs of a study; only those that it draws have lines. ``view`` is its study.json."""
    entries = {}
    for row in view["runs"]:
        lines, facts = _entry(study.folders(folder, row))
        lines = lines if study.drawn(view, row["run"]) else []
        entries[row["run"]] = Entry(lines, {**facts, "state": [row["state"]]})
    return entries


def _entry(seeds: list[Path]) -> Entry:
    """What the workdirs of one run's seeds hold together."""
    each = [metrics.read(folder / "metrics.jsonl") for folder in seeds]
    facts = [_facts(folder, rows) for folder, rows in zip(seeds, each, strict=True)]
    known = {key: [fact[key] for fact in facts if fact[key] is not None] for key in COLUMNS if key != "run"}
    return Entry(study.mean_lines(each), known)


def _config(folder: Path) -> dict[str, Any]:
    """What the table says of a run's config; of whatever version it is."""
    schema = {"seed?": int, "dataset?": str}
    try:
        return json_file.read(folder / "config.json", schema, "compare the other runs without it")
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _facts(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the table says of a workdir; numbers that its files don't hold are None."""
    config, results = _config(folder), metrics.results(folder)
    last = rows[-1] if rows else {}

    def during(name: str) -> list[float]:
        return [row[name] for row in rows if row.get(name) is not None]

    facts = {"state": "; ".join(("done", *study.told(results))) if results else "running"}
    for key, otherwise in (
        ("dataset", config.get("dataset")),
        ("parameters", None),
        ("seconds", last.get("time")),
        ("steps", last.get("step")),
        ("epochs", next((row["epoch"] for row in reversed(rows) if "epoch" in row), None)),
        ("seed", config.get("seed")),
    ):
        facts[key] = results.get(key, otherwise)
    for split in ("val", "test"):
        facts[f"{split}_best"] = max(during(f"{split}_accuracy"), default=None)
        for key, number in (("final", f"{split}_accuracy"), ("knn", f"{split}_knn_accuracy")):
            final = results.get(number, (during(number) or [None])[-1])
            facts[f"{split}_{key}"] = final if metrics.is_number(final) else None
    return facts


def _table(rows: list[dict[str, list[Any]]]) -> str:
    """Markdown, a line a row of facts; a column that would be empty is left out."""
    columns = []
    for key, (title, show) in COLUMNS.items():
        if not any(row[key] for row in rows):
            continue
        cells = [title, *(_cell(row[key], show) for row in rows)]
        width = max(map(len, cells))
        if show is str:
            columns.append([f"{cell:<{width}}" for cell in cells])
            columns[-1].insert(1, "-" * width)
        else:
            columns.append([f"{cell:>{width}}" for cell in cells])
            columns[-1].insert(1, "-" * (width - 1) + ":")
    return "".join(f"| {' | '.join(line)} |\n" for line in zip(*columns, strict=True))


def _cell(values: list[Any], show: Callable[[Any], str]) -> str:
    """One value as it is; of several, measurements as mean and sample deviation, counts and names one by one."""
    if len(set(values)) > 1 and isinstance(values[0], float):
        mean, deviation = study.spread(values)
        return f"{show(mean)} ± {show(deviation)}"
    return ", ".join(dict.fromkeys(map(show, values))) or "-"


COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "run": ("run", str),
    "dataset": ("dataset", str),
    "parameters": ("parameters", "{:,}".format),
    "val_best": ("validation, best", "{:.2%}".format),
    "val_final": ("validation, final", "{:.2%}".format),
    "test_best": ("test, best", "{:.2%}".format),
    "test_final": ("test, final", "{:.2%}".format),
    "val_knn": ("validation, kNN", "{:.2%}".format),
    "test_knn": ("test, kNN", "{:.2%}".format),
    "seconds": ("time", partial(duration, digits=3)),
    "steps": ("steps", "{:,}".format),
    "epochs": ("epochs", "{:.4g}".format),
    "seed": ("seed", "{}".format),
    "state": ("state", str),
}
