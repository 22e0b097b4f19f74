"""Draws runs over each other and tabulates them.

jaxhw compare runs/resnet runs/vit --out=runs/compared

Writes table.md and prints it; draws accuracy.png, knn_accuracy.png and loss.png, over epochs and (_time) over time.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxhw import metrics, plots
from jaxhw.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN RUN ... --out."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a workdir; it may still be training")
    parser.add_argument("--out", type=Path, required=True, help="where the pictures and the table go")


def run(args: argparse.Namespace) -> None:
    """Writes the pictures and the table; prints the table."""
    folders = _names(args.runs)
    rows = {name: _metrics(folder) for name, folder in folders.items()}
    facts = [_facts(name, folder, rows[name]) for name, folder in folders.items()]
    table = _table(facts)
    pictures = plots.compare(rows, args.out)
    (args.out / "table.md").write_text(table)
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


def _metrics(folder: Path) -> list[dict[str, Any]]:
    if not (rows := metrics.read(folder / "metrics.jsonl")):
        raise UserError(f"{folder} holds no numbers to compare: there is no metrics.jsonl, or nothing in it yet")
    return rows


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(f"{path} is damaged: it is not JSON") from None


def _facts(name: str, folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the table says of a run; numbers that its files don't hold are None."""
    config, results = _json(folder / "config.json"), _json(folder / "results.json")
    last = rows[-1]

    def during(name: str) -> list[float]:
        return [row[name] for row in rows if row.get(name) is not None]

    facts = {"run": name, "state": "done" if results else "running"}
    for key, otherwise in (
        ("dataset", config.get("dataset")),
        ("parameters", None),
        ("seconds", last["time"]),
        ("steps", last["step"]),
        ("epochs", next((row["epoch"] for row in reversed(rows) if "epoch" in row), None)),
        ("seed", config.get("seed")),
    ):
        facts[key] = results.get(key, otherwise)
    for split in ("val", "test"):
        facts[f"{split}_best"] = max(during(f"{split}_accuracy"), default=None)
        for key, number in (("final", f"{split}_accuracy"), ("knn", f"{split}_knn_accuracy")):
            facts[f"{split}_{key}"] = results.get(number, (during(number) or [None])[-1])
    return facts


def _table(facts: list[dict[str, Any]]) -> str:
    """Markdown, a line a run; a column that would be empty is left out."""
    keys = [key for key in COLUMNS if any(fact[key] is not None for fact in facts)]
    columns = []
    for key in keys:
        title, show = COLUMNS[key]
        cells = [title, *("-" if fact[key] is None else show(fact[key]) for fact in facts)]
        width = max(map(len, cells))
        if show is str:
            columns.append([f"{cell:<{width}}" for cell in cells])
            columns[-1].insert(1, "-" * width)
        else:
            columns.append([f"{cell:>{width}}" for cell in cells])
            columns[-1].insert(1, "-" * (width - 1) + ":")
    return "".join(f"| {' | '.join(line)} |\n" for line in zip(*columns, strict=True))


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 1:
        return f"{int(hours)} h {int(minutes) % 60:02d} min"
    return f"{minutes:.1f} min" if minutes >= 1 else f"{seconds:.1f} s"


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
    "seconds": ("time", _duration),
    "steps": ("steps", "{:,}".format),
    "epochs": ("epochs", "{:.4g}".format),
    "seed": ("seed", "{}".format),
    "state": ("state", str),
}
