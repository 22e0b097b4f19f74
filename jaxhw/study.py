"""Studies: named runs that may build on each other, with several seeds, in one table and one figure.

A study's workdir holds runs/<name>/seed<n>/ (one workdir a run), table.md, study.json and the figures. It can be
stopped anywhere; the same command continues the run that was going on. What a run needs and does not find here (a data
set, weights) is told in its row, and the study goes on; it is looked for again next time.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw import metrics, plots, task, train
from jaxhw.errors import UserError

LONGEST = 200  # characters of a reason in the table; it is printed whole
Missing = dict[tuple[str, int], str]  # (run, seed) -> why it has no results


def default_config(bases: Mapping[str, ConfigDict]) -> ConfigDict:
    """A study over runs that are changes of ``bases``.

    ``runs`` holds (name, base, ((key, value), ...)), each trained with every seed. A value "@NAME" is the workdir of
    the run of that name, which stands before it, with the same seed.
    """
    return ConfigDict(
        {
            "bases": dict(bases),
            "runs": (),
            "seeds": (0,),
            "columns": ("test_accuracy",),  # of the table
            # the figure: curves over epochs of the runs named (all that have accuracies, if none), or, where there
            # are points (x, run), the columns over x
            "curves": (),
            "points": (),
            "x": "",  # the points' axis
        }
    ).lock()


def run(config: ConfigDict, workdir: Path) -> bool:
    """Trains what is left of the runs, renews table and figure after each; False if it was asked to stop.

    Raises:
      UserError: the study contradicts itself, or the workdir is another's; nothing has been written.
    """
    _check(config)
    configs.claim(workdir, config, ignore=("runs:", "seeds:", "columns:", "curves:", "points:", "x:"))
    missing: Missing = {}
    for seed in config.seeds:
        for name, base, changes in config.runs:
            try:
                results = _train(config, workdir, name, base, changes, seed)
            except UserError as error:
                missing[name, seed] = f"{'failed' if isinstance(error, train.Diverged) else 'not run'}: {error}"
                print(f"{name}, seed {seed}: {missing[name, seed]}")
            else:
                if not results:
                    return False
            report(config, workdir, missing)
    return True


def folder(workdir: Path, name: str, seed: int) -> Path:
    """The workdir of one run of a study."""
    return workdir / "runs" / name / f"seed{seed}"


def report(config: ConfigDict, workdir: Path, missing: Missing) -> None:
    """Writes table.md, study.json and the figures from what there is."""
    found = {name: _results(workdir, name, config.seeds) for name, *_ in config.runs}
    states = {name: _state(name, found[name], config.seeds, missing) for name in found}
    rows = [
        {
            "run": name,
            "state": states[name],
            "seeds": {s: {k: r.get(k) for k in config.columns} for s, r in runs.items()},
        }
        for name, runs in found.items()
    ]
    (workdir / "study.json").write_text(json.dumps(rows, indent=2) + "\n")
    lines = [["run", *(column.replace("_", " ") for column in config.columns), "state"]]
    lines += [
        [name, *(show(c, _values(runs, c)) for c in config.columns), states[name]] for name, runs in found.items()
    ]
    lines.insert(1, ["---"] * len(lines[0]))
    (workdir / "table.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
    _draw(config, workdir, found)


def show(column: str, values: list[float]) -> str:
    """Mean and sample deviation over seeds, as text; accuracies in percent."""
    if not values:
        return "-"
    scale, unit, form = (100, " %", ".2f") if "accuracy" in column else (1, "", ".4g")
    mean, deviation = spread(values)
    plus = f" ± {scale * deviation:{form}}" if len(values) > 1 else ""
    return f"{scale * mean:{form}}{plus}{unit}"


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample deviation; that of one value is 0."""
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1))


def _train(config: ConfigDict, workdir: Path, name: str, base: str, changes: tuple, seed: int) -> dict[str, Any]:
    """One run's results; empty if it was stopped."""
    changes = dict(changes)
    for key, value in changes.items():
        if source := _source(value):
            changes[key] = str(folder(workdir, source, seed))
            if not _results(workdir, source, (seed,)):
                raise UserError(f"it needs {source}, which has no results")
    changed = configs.changed(config.bases[base], {**changes, "seed": seed})
    there = folder(workdir, name, seed)
    if done := _results(workdir, name, (seed,)):
        configs.claim(there, changed, ignore=("mesh.", "checkpoint_every:", "data_dir:", "init_from:"))
        return done[seed]
    print(f"{name}, seed {seed}:")
    mesh = meshes.make_mesh(changed.mesh.data)
    meshes.check_batch_size(changed.batch_size, mesh)
    return train.run(task.make(changed, mesh), changed, mesh, there)


def _source(value: Any) -> str:
    """The run that a value "@NAME" names, else an empty string."""
    return value[1:] if isinstance(value, str) and value.startswith("@") else ""


def _results(workdir: Path, name: str, seeds: tuple[int, ...]) -> dict[int, dict[str, Any]]:
    """Seed -> results.json of the runs that are done."""
    paths = {seed: folder(workdir, name, seed) / "results.json" for seed in seeds}
    return {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.exists()}


def _values(results: dict[int, dict[str, Any]], column: str) -> list[float]:
    return [result[column] for result in results.values() if result.get(column) is not None]


def _state(name: str, results: dict[int, Any], seeds: tuple[int, ...], missing: Missing) -> str:
    if len(results) == len(seeds):
        return "done" if len(seeds) == 1 else f"{len(seeds)} seeds"
    counted = f"{len(results)} of {len(seeds)} seeds" if results else ""
    why = next((missing[name, seed] for seed in seeds if (name, seed) in missing), "" if counted else "to come")
    why = why if len(why) <= LONGEST else f"{why[:LONGEST]}..."
    return "; ".join(filter(None, (counted, why.replace("|", "/"))))


def _draw(config: ConfigDict, workdir: Path, found: dict[str, dict[int, dict]]) -> None:
    if config.points:
        series = {}
        for column in config.columns:
            values = [(x, _values(found[name], column)) for x, name in config.points]
            series[column.replace("_", " ")] = [(x, *spread(v)) for x, v in values if v]
        plots.points(series, config.x, workdir / "points.png")
        return
    lines = {name: mean_lines(workdir, name, config.seeds) for name in config.curves or found}
    lines = {
        name: rows for name, rows in lines.items() if any("val_accuracy" in r or "test_accuracy" in r for r in rows)
    }
    if lines:
        plots.compare(lines, workdir)


def mean_lines(workdir: Path, name: str, seeds: tuple[int, ...]) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl, averaged over the seeds that have begun: as far as the shortest goes."""
    each = [
        {(row["step"], *sorted(row)): row for row in metrics.read(folder(workdir, name, s) / "metrics.jsonl")}
        for s in seeds
    ]
    each = [rows for rows in each if rows]
    shared = [key for key in each[0] if all(key in rows for rows in each)] if each else []
    return [
        {k: spread([r[key][k] for r in each if r[key][k] is not None] or [math.nan])[0] for k in key[1:]}
        for key in shared
    ]


def _check(config: ConfigDict) -> None:
    seen: set[str] = set()
    for name, base, changes in config.runs:
        if base not in config.bases:
            raise UserError(f"config.runs: {name} is a change of {base!r}; there are {', '.join(config.bases)}")
        if name in seen or "/" in name:
            raise UserError(f"config.runs: {name!r} is there twice or has a slash in its name")
        configs.changed(config.bases[base], {k: "" if _source(v) else v for k, v in changes})
        for source in filter(None, (_source(value) for _, value in changes)):
            if source not in seen:
                raise UserError(f"config.runs: {name} needs {source!r}, which does not stand before it")
        seen.add(name)
    for name in (*config.curves, *(name for _, name in config.points)):
        if name not in seen:
            raise UserError(f"config.curves and config.points name {name!r}, which is no run")
    if not config.runs or not config.seeds:
        raise UserError("a study needs config.runs and config.seeds")
