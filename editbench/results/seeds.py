"""Runs that differ in their seed only become one row: means over seeds, with intervals over records and seeds.

A run's own interval is over records: it says how the figure would vary with other records. An interval here says how it
would vary with other records and other seeds: to what the records make uncertain in one run the spread between the
seeds is added (:func:`editbench.results.intervals.over_seeds`). One seed shows no spread: its interval is over records.
"""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING

from editbench.files import ResultsError
from editbench.results.columns import TEXT_COLUMNS
from editbench.results.identity import LABELS, METHOD, stands_for
from editbench.results.leaderboard import columns_of
from editbench.results.schema import HEADLINES, RECORD_STATUSES, SHARE, Cell, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SAME = (*METHOD, *LABELS, "schema")
"""Columns in which the runs behind one row agree, besides their identity."""
SEPARATOR = ", "
"""Between the texts of a grouped row: its runs, seeds, content hashes."""


def group(rows: Sequence[Row], by: Iterable[str] = ()) -> list[Row]:
    """One row for all finished runs of one identity that agree in the columns `by`, in the order of these columns.

    Figures are means over the seeds that have them, and `missing` says of how many that is not so. Several runs of one
    seed count as that seed, by their mean. `_low` and `_high` are the interval over records and seeds. Counts are those
    of one seed, and where seeds differ of the worst: the fewest records behind a mean, the most that are in none. Peaks
    are the highest. A text is what the runs say, one after the other if they differ. A run that is not finished, or
    does not say what it was made with, keeps its own row.

    Args:
        rows: What `collect` or `where` returned.
        by: Further columns in which the runs behind one row agree.

    Raises:
        ResultsError: If there is no such column.
    """
    by = list(by)
    if unknown := sorted(set(by) - set(columns_of(rows))):
        raise ResultsError(f"no column {unknown[0]!r} to group by; choose among {', '.join(SAME)}, ...")
    key = [*by, *(name for name in SAME if name not in by)]
    groups: dict[tuple[Cell, ...], list[Row]] = defaultdict(list)
    unfinished = []
    for row in rows:
        if row["status"] == "done":
            groups[(*(row.get(name) for name in key), stands_for(row, "identity"))].append(row)
        else:
            unfinished.append(row)
    finished = [_merge(groups[values]) for values in sorted(groups, key=lambda values: [_rank(v) for v in values])]
    return [*finished, *unfinished]


def _merge(runs: list[Row]) -> Row:
    """One row for runs that differ in their seed, or in nothing that matters."""
    seeds: dict[Cell, list[Row]] = defaultdict(list)
    for row in sorted(runs, key=lambda row: (_rank(row["seed"]), str(row["run"]))):
        seeds[row["seed"]].append(row)
    ordered = [row for rows in seeds.values() for row in rows]
    merged: Row = {name: _merge_column(name, [row.get(name) for row in ordered]) for name in columns_of(runs)}
    merged["seeds"] = len(seeds)
    missing = {}
    for name in [name for name in merged if _is_figure(name, merged)]:
        figures = [_mean([row.get(name) for row in rows]) for rows in seeds.values()]
        present = [figure for figure in figures if figure is not None]
        merged[name] = fmean(present) if present else None
        if 0 < len(present) < len(figures):
            missing[name] = len(figures) - len(present)
        if f"{name}_low" in merged:
            there = [rows for rows, figure in zip(seeds.values(), figures, strict=True) if figure is not None]
            low, high = _interval(name, there) if there else (None, None)
            merged[f"{name}_low"], merged[f"{name}_high"] = low, high
    if missing:
        merged["missing"] = json.dumps(missing)
    return merged


def _interval(name: str, seeds: list[list[Row]]) -> tuple[float | None, float | None]:
    """Of a mean over seeds, of one seed its own; none if a run has none. Runs of one seed count as that seed."""
    from editbench.results.intervals import over_seeds

    columns = (name, f"{name}_low", f"{name}_high")
    cells = [[_mean([row.get(column) for row in rows]) for rows in seeds] for column in columns]
    found = [[one for one in ones if one is not None] for ones in cells]
    if found != cells:
        return None, None
    if len(seeds) == 1:
        return found[1][0], found[2][0]
    low, high = over_seeds(found[0], found[1], found[2], SHARE if _is_share(name, seeds[0][0]) else None)
    return float(low), float(high)


def _is_share(name: str, row: Row) -> bool:
    """Whether this column's figure lies in [0, 1]."""
    shares, (_, _, measure) = str(row.get("shares") or "").split(SEPARATOR), name.partition(".")
    return name in (*HEADLINES, "score") or measure in shares or measure.partition(".")[2] in shares


def _merge_column(name: str, values: list[Cell]) -> Cell:
    """The runs' texts, counts and peaks as one cell; None for a figure."""
    numbers = [value for value in values if isinstance(value, (int, float))]
    if _is_count(name):
        behind_a_mean = name.endswith("_n") or name == "scored"
        return (min if behind_a_mean else max)(numbers, default=None)
    if name.startswith("peak_"):
        return max(numbers, default=None)
    if name in TEXT_COLUMNS or name in ("seed", *SAME):
        distinct = list(dict.fromkeys(value for value in values if value is not None))
        return distinct[0] if len(distinct) == 1 else SEPARATOR.join(map(str, distinct)) or None
    return None


def _is_figure(name: str, columns: Iterable[str]) -> bool:
    """Whether this column is a mean over seeds: not a text, a count, a peak, or the end of an interval."""
    of_interval = name.endswith(("_low", "_high")) and name.rpartition("_")[0] in columns
    known = name in TEXT_COLUMNS or name in ("seed", "seeds", *SAME) or name.startswith("peak_")
    return not (of_interval or known or _is_count(name))


def _is_count(name: str) -> bool:
    return name.endswith("_n") or name in RECORD_STATUSES


def missing_in(row: Row) -> dict[str, int]:
    """In how many of a grouped row's seeds each of its figures is missing."""
    text = row.get("missing")
    return dict(json.loads(text)) if isinstance(text, str) else {}


def _mean(values: list[Cell]) -> float | None:
    """Of the runs of one seed, those that have a number."""
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    return fmean(numbers) if numbers else None


def _rank(value: Cell) -> tuple[bool, float, str]:
    """For sorting cells of any kind: numbers by size, then texts."""
    if isinstance(value, (int, float)):
        return (False, float(value), "")
    return (True, 0.0, value or "")
