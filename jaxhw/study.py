"""Studies: named runs that may build on each other, with several seeds, in one table and one figure.

A study's workdir holds runs/<name>/seed<n>/ (one workdir a run), table.md, study.json and the figures. It can be
stopped anywhere; the same command continues the run that was going on. What a run needs and does not find here (a data
set, weights) is told in its row, and the study goes on; it is looked for again next time.
"""

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxhw import checkpoint, claims, contents, files, json_file, lock, metrics, plots, task, train
from jaxhw import config as configs
from jaxhw import mesh as meshes
from jaxhw.errors import UserError, warn
from jaxhw.process import StopRequest
from jaxhw.study_config import check, default_config, is_point, source

__all__ = ["check", "default_config", "drawn", "folder", "folders", "points", "read_view", "report", "run", "told"]

LONGEST = 200  # characters of a reason in the table; it is printed whole
_VIEW = {"columns": [str], "curves": [str], "points": [[object]], "x": str}  # study.json
_VIEW |= {"runs": [{"run": str, "state": str, "seeds": {str: {str: object}}}]}
Missing = dict[tuple[str, int], str]  # (run, seed) -> why it has no results
Left = deque[tuple[int, tuple]]  # (seed, an entry of config.runs) still to be trained; what others train at the end


def run(config: ConfigDict, workdir: Path, only: str = "*") -> bool:
    """Trains what is left of the runs, renews table and figure after each; False if it was asked to stop.

    Args:
      only: a shell-style pattern; runs of other names are left for another time.

    Raises:
      UserError: the study contradicts itself, no run matches, or the workdir is another's; nothing has been written.
    """
    check(config)
    runs = [entry for entry in config.runs if fnmatchcase(entry[0], only)]
    if not runs:
        raise UserError(f"no run is called {only!r}; the runs: {'; '.join(name for name, *_ in config.runs)}")
    free = [f"bases.{base}.{key}" for base in config.bases for key in claims.FREE]
    with lock.turn(workdir):
        claims.claim(workdir, config, ignore=("runs:", "seeds:", "columns:", "curves:", "points:", "x:", *free))
    meshes.divide_cpu(max(base.mesh.cpu_devices for base in config.bases.values()))
    with StopRequest() as stop:
        return _train_all(config, workdir, deque(itertools.product(config.seeds, runs)), stop)


def _train_all(config: ConfigDict, workdir: Path, left: Left, stop: StopRequest) -> bool:
    """Trains (seed, entry of config.runs) one after the other; what another process trains goes to the end."""
    missing: Missing = {}
    others = 0  # how many in a row another process was training
    while left:
        if others == len(left):
            warn(f"other processes train what is left of {workdir}: waiting for them")
            stop.wait(lock.RENEWED)
            others = 0
        if stop.asked:
            return False
        seed, (name, base, changes) = entry = left.popleft()
        try:
            _check_sources(changes, [name for other, (name, *_) in left if other == seed])
            with _owned(there := folder(workdir, name, seed)):
                changed = _config(config.bases[base], dict(changes), workdir, name, seed, missing)
                results = _train(changed, there, f"{name}, seed {seed}", stop)
        except lock.InUse:
            left.append(entry)
            others += 1
            continue
        except (UserError, OSError) as error:
            missing[name, seed] = f"{'failed' if isinstance(error, train.Diverged) else 'not run'}: {error}"
            print(f"{name}, seed {seed}: {missing[name, seed]}")
        else:
            if not results:
                return False
        others = 0
        report(config, workdir, missing)
    return True


def folder(workdir: Path, name: str, seed: int) -> Path:
    """The workdir of one run of a study."""
    return workdir / "runs" / name / f"seed{seed}"


def folders(workdir: Path, row: Mapping[str, Any]) -> list[Path]:
    """The workdirs whose results a row of study.json's "runs" counts."""
    return [folder(workdir, row["run"], seed) for seed in row["seeds"]]


def report(config: ConfigDict, workdir: Path, missing: Missing) -> None:
    """Writes table.md, study.json and the figures from what there is; results that are not the config's don't count."""
    runs = []
    for name, *_ in config.runs:
        results = _results(workdir, name, config.seeds, missing)
        state = _state(name, results, config.seeds, missing)
        seeds = {seed: {k: result.get(k) for k in config.columns} for seed, result in results.items()}
        runs.append({"run": name, "state": state, "seeds": seeds})
    view = {key: config[key] for key in ("columns", "curves", "points", "x")} | {"runs": runs}
    files.write_json(workdir / "study.json", view)
    lines = [["run", *(column.replace("_", " ") for column in config.columns), "state"]]
    lines.append(["---"] * len(lines[0]))
    lines += [[r["run"], *(show(c, _values(r, c)) for c in config.columns), r["state"]] for r in runs]
    files.write(workdir / "table.md", "".join(f"| {' | '.join(line)} |\n" for line in lines))
    _draw(view, workdir)


def read_view(workdir: Path) -> dict[str, Any]:
    """What a study's workdir holds in study.json; empty where it has none.

    Raises:
      UserError: the file is damaged.
    """
    path, advice = workdir / "study.json", "the command that trains the study writes it anew after its next run"
    try:
        view = json_file.read(path, _VIEW, advice, nan_is_null=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    names = [row["run"] for row in view["runs"]]
    seeds = [(seed, values) for row in view["runs"] for seed, values in row["seeds"].items()]
    sound = (
        all(is_point(point) and point[1] in names for point in view["points"])
        and not any("/" in name or name == ".." for name in names)
        and all(seed.isdecimal() and set(view["columns"]) <= values.keys() for seed, values in seeds)
    )
    if not sound:
        raise UserError(f"{path} is damaged (its points, runs and columns do not go together); {advice}")
    return view


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


def points(view: Mapping[str, Any]) -> dict[str, list[tuple[float, float, float]]]:
    """The lines of points.png: (x, mean, deviation) where there are results; ``view`` is study.json.

    There is one for each column, or each column of each line that the points name.
    """
    runs = {row["run"]: row for row in view["runs"]}
    series: dict[str, list[tuple[float, float, float]]] = {}
    for column, (x, name, *line) in itertools.product(view["columns"], view["points"]):
        label = ": ".join((*line, column.replace("_", " ")))
        if values := _values(runs[name], column):
            series.setdefault(label, []).append((x, *spread(values)))
    return series


def drawn(view: Mapping[str, Any], run: str) -> bool:
    """Whether a run's curves are in a study's figures; ``view`` is study.json."""
    return run in view["curves"] if view["curves"] else not view["points"]


def mean_lines(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The lines of several metrics.jsonl, averaged as far as the shortest goes; None where no run has a number."""
    each = [{(row["step"], *sorted(row)): row for row in rows} for rows in runs]
    shared = [key for key in each[0] if all(key in rows for rows in each)] if each else []
    return [{k: _mean([rows[key][k] for rows in each]) for k in key[1:]} for key in shared]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return spread(known)[0] if known else None


def _config(
    base: ConfigDict, changes: dict[str, Any], workdir: Path, name: str, seed: int, missing: Missing
) -> ConfigDict:
    """One run's config; "@NAME" has become the workdir of that run."""
    for key, value in changes.items():
        if needed := source(value):
            done = (folder(workdir, needed, seed) / "results.json").exists()
            if (needed, seed) in missing or not done:
                raise UserError(f"it needs {needed}, which has no results")
            changes[key] = _spelt(folder(workdir, needed, seed), key, folder(workdir, name, seed))
    return configs.changed(base, {**changes, "seed": seed})


def _check_sources(changes: Sequence[tuple[str, Any]], left: Sequence[str]) -> None:
    """Raises InUse where a run needs one that is still left: it stood before it, so another process is training it."""
    for needed in filter(None, (source(value) for _, value in changes)):
        if needed in left:
            raise lock.InUse(f"it needs {needed}, which another process trains")


@contextlib.contextmanager
def _owned(there: Path) -> Iterator[None]:
    """Owns the workdir of a run that is not finished, and forgets its config if it was stopped before it had saved."""
    if (there / "results.json").exists():
        yield
        return
    with lock.held(there):
        if not checkpoint.exists(there):
            for name in ("config.json", contents.FILE):
                (there / name).unlink(missing_ok=True)
        yield


def _spelt(source: Path, key: str, there: Path) -> str:
    """The path of a run's source, spelt as the run has it if it has begun: the study may have been moved since."""
    path = there / "config.json"
    spelt = configs.load(path).get(key) if path.exists() else None
    return spelt if spelt and Path(spelt).parts[-3:] == source.parts[-3:] else str(source)


def _train(config: ConfigDict, there: Path, name: str, stop: StopRequest) -> dict[str, Any]:
    """One run's results; empty if it was stopped."""
    if results := metrics.results(there):
        claims.claim(there, config, ignore=claims.FREE)
        return results
    print(f"{name}:")
    mesh = meshes.of_config(config)
    meshes.check_batch_size(config.batch_size, mesh, config.accumulate)
    return train.run(task.make(config, mesh), config, mesh, there, stop=stop)


def _results(workdir: Path, name: str, seeds: Sequence[int], missing: Missing) -> dict[int, dict[str, Any]]:
    """Seed -> results.json of the runs that are done; what cannot be read is missing from here on."""
    found = {}
    for seed in seeds:
        try:
            results = {} if (name, seed) in missing else metrics.results(folder(workdir, name, seed))
        except UserError as error:
            missing[name, seed] = f"not run: {error}"
        else:
            found |= {seed: results} if results else {}
    return found


def _values(row: Mapping[str, Any], column: str) -> list[float]:
    """The numbers that a row of study.json's "runs" has in a column."""
    return [values[column] for values in row["seeds"].values() if metrics.is_number(values[column])]


def told(results: Mapping[str, Any]) -> list[str]:
    """What results.json says of a run beside its numbers: the names of what is true, such as "collapsed"."""
    return sorted(key for key, value in results.items() if value is True)


def _state(name: str, results: dict[int, Any], seeds: tuple[int, ...], missing: Missing) -> str:
    """How far a run is, why not further, and what its results say of themselves ("collapsed": true)."""
    said = sorted({key for result in results.values() for key in told(result)})
    if len(results) == len(seeds):
        return "; ".join(("done" if len(seeds) == 1 else f"{len(seeds)} seeds", *said))
    counted = f"{len(results)} of {len(seeds)} seeds" if results else ""
    why = next((missing[name, seed] for seed in seeds if (name, seed) in missing), "" if counted else "to come")
    why = why if len(why) <= LONGEST else f"{why[:LONGEST]}..."
    return "; ".join(filter(None, (counted, why.replace("|", "/"), *said)))


def _draw(view: Mapping[str, Any], workdir: Path) -> None:
    if series := points(view):
        plots.points(series, view["x"], workdir / "points.png")
    lines = {
        row["run"]: mean_lines([metrics.read(there / "metrics.jsonl") for there in folders(workdir, row)])
        for row in view["runs"]
        if drawn(view, row["run"])
    }
    lines = {
        name: rows for name, rows in lines.items() if any("val_accuracy" in r or "test_accuracy" in r for r in rows)
    }
    if lines:
        plots.compare(lines, workdir)
