"""Runs that differ in their seed only become one row: means over seeds, with intervals between seeds.

A run's own interval is over records: it says how the figure would vary with other records. An interval here is
Student's t interval over the seeds' figures, mean ± t(0.975, n - 1) · s / √n: it says how the figure would vary with
other seeds. It takes no notice of a rate's bounds, and may reach below 0 or above 1. One seed has none.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from editbench.results.identity import LABELS, METHOD, stands_for
from editbench.results.leaderboard import columns_of
from editbench.results.schema import RECORD_STATUSES, TEXT_COLUMNS, Cell, ResultsError, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SAME = (*METHOD, *LABELS, "schema")
"""Columns in which the runs behind one row agree, besides their identity."""
SEPARATOR = ", "
"""Between the texts of a grouped row: its runs, seeds, content hashes."""


def group(rows: Sequence[Row], by: Iterable[str] = ()) -> list[Row]:
    """One row for all finished runs of one identity that agree in the columns `by`, in the order of these columns.

    Figures are means over the seeds that have them, and `missing` says of how many that is not so. Several runs of one
    seed count as that seed, by their mean. `_low` and `_high` are the interval between seeds. Counts are those of one
    seed, and where seeds differ of the worst: the fewest records behind a mean, the most that are in none. Peaks are
    the highest. A text is what the runs say, one after the other if they differ. A run that is not finished, or does
    not say what it was made with, keeps its own row.

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


def half_width(values: Sequence[float]) -> float:
    """Half the width of the 95 % t interval of the mean of two or more values."""
    return t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


def t_quantile(freedom: int) -> float:
    """The 0.975 quantile of Student's t with this many degrees of freedom, 1 or more."""
    low, high = 0.0, 13.0  # 12.706 with one degree of freedom; less with more
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 0.95 else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(-t < T < t), by the finite sums of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= k / (k + 1) * math.cos(angle) ** 2
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total


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
            half = half_width(present) if len(present) > 1 else None
            merged[f"{name}_low"] = None if half is None else fmean(present) - half
            merged[f"{name}_high"] = None if half is None else fmean(present) + half
    if missing:
        merged["missing"] = json.dumps(missing)
    return merged


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
