"""The leaderboard: a row for each run folder, whatever became of the run, and one row for runs of several seeds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from editbench.files import ResultsError, read_bytes
from editbench.results.columns import COLUMNS, column, columns_of, mapping_in, number
from editbench.results.identity import LABELS, METHOD, copies, digest_or_own
from editbench.results.recomputed import of_one_run, summary_of
from editbench.results.run_folder import is_run, read_run
from editbench.results.schema import CONFIG_FILE, EDITS_FILE, HEADLINES, RUN_FILE, SCORES_FILE, Cell, Range, Row
from editbench.results.selection import check_columns, rank, where

if TYPE_CHECKING:
    import pandas as pd


SAME = (*METHOD, *LABELS, "schema")  # columns in which the runs behind one row agree, besides their identity
FINAL, INTERIM = "final", "interim"  # stages
SEQUENTIAL = "sequential"  # mode of runs from before the setting
SEPARATOR = ", "  # between the texts of a grouped row: its runs, seeds, content hashes
_OVER_SEEDS: dict[str, Callable[[list[float]], float]] = {"sum": sum, "min": min, "max": max}


def collect(*roots: str | Path) -> list[Row]:
    """One row for each run in these results folders, by folder and name; a run that lies in two of them is listed once.

    A run that failed, still runs, or is damaged has a row too, with its status and reason.
    """
    return list(collect_folders(*roots).values())


def collect_folders(*roots: str | Path, conditions: Iterable[str] = ()) -> dict[Path, Row]:
    """The rows of `collect` by run folder, of the runs that meet all conditions (`selection.where`)."""
    found: dict[tuple[Cell, Cell], tuple[Path, Row]] = {}
    for root in map(Path, roots):
        if not root.is_dir():
            raise ResultsError(f"{root} is not a folder; give the folder that holds the run folders")
        for folder in sorted(path for path in root.iterdir() if is_run(path)):
            row = read_row(folder)
            found.setdefault((row["run"], row["content_hash"] or str(folder.resolve())), (folder, row))
    kept = {id(row) for row in where([row for _, row in found.values()], conditions)}
    return {folder: row for folder, row in found.values() if id(row) in kept}


def read_row(folder: Path) -> Row:
    """The row of one run; of a damaged run, only what can be trusted."""
    return read_stages(folder, FINAL)[0]


def read_stages(folder: Path, stage: str) -> list[Row]:
    """The rows of one run at a stage: "before", "immediate", "final"; "interim" has one for each evaluation point.

    Headline, score and perplexity are those of the stage, and `interim.…` stands for `final.…`.
    """
    row: Row = dict.fromkeys(COLUMNS)
    row["run"] = folder.name
    try:
        with of_one_run(folder):
            return _rows_of(folder, row, stage)
    except ResultsError as error:
        return [{**dict.fromkeys(COLUMNS), "run": folder.name, "status": "damaged", "reason": str(error)}]


def _rows_of(folder: Path, row: Row, stage: str) -> list[Row]:
    info: Mapping[str, Any] = read_run(folder)
    try:
        if info["status"] not in ("running", "damaged") and info["summary"] is not None:
            info = {**info, "summary": summary_of(folder, info)}
        files = (RUN_FILE, CONFIG_FILE, SCORES_FILE, EDITS_FILE)
        row["content_hash"] = sha256(b"".join(read_bytes(folder / name) for name in files)).hexdigest()
    except ResultsError as error:
        info = {**info, "status": "damaged", "summary": None, "costs": None, "reason": str(error)}
    row["status"] = info["status"]
    summary = _mapping(info, "summary")
    if stage == FINAL or not summary:
        return [_row_of(dict(row), info)]
    found = summary.get(stage)
    points = found if isinstance(found, list) else [found or {}]
    rows = [_row_of(dict(row), {**info, "summary": {**summary, FINAL: one}}) for one in points]
    renamed = [{name.replace("final.", f"{stage}.", 1): cell for name, cell in one.items()} for one in rows]
    return [
        one | {"edits": _cell(of, "edits")} if stage == INTERIM else one
        for one, of in zip(renamed, points, strict=True)
    ]


def _row_of(row: Row, info: Mapping[str, Any]) -> Row:
    for name, declared in COLUMNS.items():
        if declared.path:
            path = declared.path.split("/")
            row[name] = _json(_mapping(info, *path)) if declared.is_json else _cell(info, *path)
    row |= {"seeds": 1, "schema": _cell(info, "provenance", "schema") or 1, "metrics": _json(_facts(info))}
    row["mode"] = row["mode"] or SEQUENTIAL
    for stage in ("before", "immediate", "final"):
        row |= _of_stage(info, stage)
    return {**row, **_computed(row, info)}


def _facts(info: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the run's metrics; where a measure's metric has none ("ability.sst2.acc"), the measure's range."""
    facts: dict[str, Any] = {name: _mapping(info, "metrics", name) for name in _mapping(info, "metrics")}
    ranges = _mapping(info, "summary", "ranges").items()
    own = {name: {"range": list(limits)} for name, limits in ranges if name.rpartition(".")[2] not in facts}
    return {**own, **facts}


def _of_stage(info: Mapping[str, Any], stage: str) -> Row:
    """Columns of a stage: "final.rewrite.nll", "final.texts.plain.perplexity", …; before editing, ability alone."""
    summary = _mapping(info, "summary", stage)
    row = _estimates(stage, _mapping(summary, "measures")) if stage != "before" else {}
    for of in _mapping(summary, "model"):
        scores = _mapping(summary, "model", of)
        if of.startswith("ability."):
            row |= _estimates(f"{stage}.{of}", scores)
        elif stage != "before":
            texts = f"{stage}.texts.{of.removeprefix('perplexity.')}"
            row |= {f"{texts}.{name}": _cell(scores, name, "mean") for name in scores}
    return row


def _estimates(prefix: str, measures: Mapping[str, Any]) -> Row:
    endings = {"mean": "", "n": "_n", "low": "_low", "high": "_high"}
    return {f"{prefix}.{name}{end}": _cell(measures, name, key) for name in measures for key, end in endings.items()}


def _computed(row: Row, info: Mapping[str, Any]) -> Row:
    before = _perplexity_before(info)
    cached = _mapping(info, "costs").get("cached")
    kept = [b for where in ("device", "host", "disk") if isinstance(b := row[f"footprint_{where}_bytes"], int)]
    numbers = {name: number(row, name) for name in ("scored", "unsupported", "failed", *HEADLINES)}
    coverage = _ratio(numbers["scored"], sum(numbers[status] or 0 for status in ("scored", "unsupported", "failed")))
    return {
        "hparams": _origin(_mapping(info, "provenance", "method")),
        "perplexity_before": before,
        "perplexity_ratio": _ratio(row["perplexity_after"], before),
        "coverage": coverage,
        "score_penalised": _penalised(numbers, coverage),
        "cached": SEPARATOR.join(map(str, cached)) or None if isinstance(cached, list) else None,
        "seconds_per_edit": _ratio(row["edit_seconds"], row["edits_made"]),
        "latency_ratio": _ratio(row["question_seconds"], row["question_seconds_bare"]),
        "bytes_per_edit": _ratio(sum(kept), row["edits_made"]) if kept else None,
    }


def _origin(method: Mapping[str, Any]) -> Cell:
    """Origin of the hparams in words, with the trials of ``editbench tune``."""
    origin, trials = _cell(method, "hparams"), _cell(method, "tuning", "trials")
    return f"{origin}: {trials} trials" if trials is not None else origin and str(origin).replace("_", " ")


def _perplexity_before(info: Mapping[str, Any]) -> Cell:
    """Perplexity of the plain texts at zero edits."""
    summary = _mapping(info, "summary")
    interim = summary.get("interim")
    for part in (summary.get("before"), *(interim if isinstance(interim, list) else ())):
        if isinstance(part, dict) and _cell(part, "edits") == 0:
            return _cell(part, "model", "perplexity.plain", "perplexity", "mean")
    return None


def _penalised(numbers: Mapping[str, float | None], coverage: float | None) -> float | None:
    """The penalised score of all headline means; 0 if no record was edited."""
    if coverage == 0:
        return 0.0
    means = {name: mean for name in HEADLINES if (mean := numbers[name]) is not None}
    return None if coverage is None or len(means) < len(HEADLINES) else penalised_score(means, coverage)


def penalised_score(means: Mapping[str, float], coverage: float) -> float:
    """Harmonic mean of headline means by name, with reliability and generality 0 for every record that was not edited.

    ``coverage`` is the share of records that were.
    """
    factors = [mean if name == "locality" else mean * coverage for name, mean in means.items()]
    return len(factors) / sum(1 / one for one in factors) if all(factors) else 0.0


def _ratio(above: Cell, below: Cell) -> float | None:
    if isinstance(above, (int, float)) and isinstance(below, (int, float)) and below > 0:
        return above / below
    return None


def _mapping(tree: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    found: Any = tree
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _cell(tree: Mapping[str, Any], *path: str) -> Cell:
    value = _mapping(tree, *path[:-1]).get(path[-1])
    return value if isinstance(value, (str, int, float)) else None


def _json(value: Mapping[str, Any]) -> str | None:
    return json.dumps(value, sort_keys=True) if value else None


def to_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a pandas data frame, columns in the order of the CSV."""
    import pandas as pd

    return pd.DataFrame(rows, columns=pd.Index(columns_of(rows)))


def row_as_json(row: Row, **facts: Any) -> str:
    """A row as one line of strict JSON, further facts first; JSON in it becomes objects."""
    from editbench.json_lines import encode

    values: dict[str, Any] = {name: row.get(name) for name in columns_of([row])}
    for name, value in values.items():
        if column(name).is_json and isinstance(value, str):
            values[name] = json.loads(value)
    return encode({**facts, **values})


def group(rows: Sequence[Row], by: Iterable[str] = ()) -> list[Row]:
    """One row for all finished runs of one identity that agree in the columns `by`, in the order of these columns.

    Values are aggregated as their column declares (`Column.seeds`), means over the seeds that have a value; `missing`
    counts the others. Runs of one seed on several streams count as that seed, by their mean. `_low` and `_high` are the
    interval over records and seeds. A run that is not finished, or has no identity, keeps its own row; so do all runs
    of a group with copies, since a copy is no seed.
    """
    by = list(by)
    check_columns(by, rows)
    key = [*by, *(name for name in SAME if name not in by)]
    groups: dict[tuple[Cell, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["status"] == "done":
            groups[(*(row.get(name) for name in key), digest_or_own(row, "identity"))].append(row)
    ordered = [groups[values] for values in sorted(groups, key=lambda values: [rank(v) for v in values])]
    finished = [row for runs in ordered for row in (runs if copies(runs) else [_merge(runs)])]
    return [*finished, *(row for row in rows if row["status"] != "done")]


def _merge(runs: list[Row]) -> Row:
    """One row for runs that differ in their seed, or in nothing that matters."""
    seeds: dict[Cell, list[Row]] = defaultdict(list)
    for row in sorted(runs, key=lambda row: (rank(row["seed"]), str(row["run"]))):
        seeds[row["seed"]].append(row)
    ordered = [row for rows in seeds.values() for row in rows]
    facts = mapping_in(ordered[0], "metrics")
    columns = {name: column(name, facts) for name in columns_of(runs)}
    merged: Row = {name: _merge_cells([row.get(name) for row in ordered], one.seeds) for name, one in columns.items()}
    merged |= {"seeds": len(seeds), "metrics": ordered[0].get("metrics")}
    missing = {}
    for name in [name for name, one in columns.items() if one.seeds == "mean"]:
        figures: list[Cell] = [_mean([row.get(name) for row in rows]) for rows in seeds.values()]
        merged[name] = _mean(figures)
        if 0 < figures.count(None) < len(figures):
            missing[name] = figures.count(None)
        if f"{name}_low" in merged:
            ends = _interval(name, list(seeds.values()), columns[name].range)
            merged[f"{name}_low"], merged[f"{name}_high"] = ends
    return {**merged, "missing": _json(missing)}


def _interval(name: str, seeds: list[list[Row]], within: Range | None) -> list[float] | list[None]:
    """The ends of the interval of a mean over seeds; of one seed its own over records; none if a run has none."""
    from editbench.results.intervals import over_seeds

    names = (name, f"{name}_low", f"{name}_high")
    cells = [[_mean([row.get(one) for row in rows]) for one in names] for rows in seeds]
    known = [cell for cell in cells if cell[0] is not None]
    if not known or any(None in cell for cell in known):
        return [None, None]
    means, lows, highs = zip(*known, strict=True)
    return [lows[0], highs[0]] if len(known) == 1 else over_seeds(means, lows, highs, within).tolist()


def _merge_cells(values: list[Cell], how: str) -> Cell:
    """The cells of several runs as one; None of a mean and of its interval."""
    if how == "list":
        distinct = list(dict.fromkeys(value for value in values if value is not None))
        return distinct[0] if len(distinct) == 1 else SEPARATOR.join(map(str, distinct)) or None
    numbers = [value for value in values if isinstance(value, (int, float))]
    return _OVER_SEEDS[how](numbers) if numbers and how in _OVER_SEEDS else None


def _mean(values: list[Cell]) -> float | None:
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    return fmean(numbers) if numbers else None
