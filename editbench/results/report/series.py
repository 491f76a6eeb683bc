"""Scored rows to what charts show: curves over the number of edits, and heat maps of edit age by stream position."""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from editbench.results.schema import HEADLINES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Rows = Sequence[Mapping[str, Any]]

POINTS = 200
"""Points of a curve; of a longer one, evenly spaced ones are kept."""
VALUES = 40_000
"""Values of all curves together; more runs and measures have fewer points each."""
BINS = 20
"""Bins of a heat map's axis."""
COUNTS = ("texts", "tokens", "questions", "left_out")
"""Of a set of texts: how many there are, which no edit changes."""
_DIGITS = 5

Curve = dict[str, list[float | None]]
"""Numbers of edits, as "edits", and a list for each measure, as long."""


def curves(rows: Rows) -> dict[str, Curve]:
    """Every measure over the number of edits.

    Returns:
        "immediate": the mean over all records so far, each scored right after its own edit. "checkpoints": the mean
        over the records scored at a checkpoint, or at the end; and sets of texts ("plain.perplexity",
        "unrelated.activation", "drift.hidden_change") and general ability ("ability.<test>.<metric>"), also before the
        first edit.
    """
    scored = [row for row in rows if row.get("status", "scored") == "scored"]  # only a record may be anything else
    immediate = sorted((row for row in scored if row["moment"] == "immediate"), key=lambda row: int(row["edits"]))
    later = [row for row in scored if row["moment"] != "immediate"]
    return {"immediate": _running_means(immediate), "checkpoints": _means_by_edits(later)}


def thin(all_curves: Iterable[dict[str, Curve]], limit: int = VALUES) -> None:
    """Leave out points, evenly, until a curve has at most `POINTS`, and all have at most `limit` values together."""
    every = [curve for of_run in all_curves for curve in of_run.values()]
    points = POINTS
    while points > 2 and sum(len(curve) * min(points, len(curve["edits"])) for curve in every) > limit:
        points = points * 9 // 10
    for curve in every:
        kept = _spread(len(curve["edits"]), points)
        curve.update({name: [values[index] for index in kept] for name, values in curve.items()})


def heat_map(rows: Rows, headline: Mapping[str, str]) -> dict[str, Any] | None:
    """Headline measures by an edit's position in the stream and by its age, the number of edits made since.

    There are as many ages as there are checkpoints, so that evenly spaced ones leave no gaps; without any there is but
    the end. None if nothing was scored.

    Returns:
        "by" ("age" or "moment"), the labels "x" (positions) and "y", and for each measure a matrix of means, one row a
        label of y, None where there is nothing; "n" is the matrix of the numbers of records.
    """
    scored = [row for row in rows if row.get("status") == "scored" and row["moment"] != "baseline"]
    if not scored:
        return None
    end = {row["edits"] for row in scored if row["moment"] == "final"}
    scored = [row for row in scored if row["moment"] != "checkpoint" or row["edits"] not in end]  # once is enough
    length = max(max(int(row["edits"]), int(row["position"]) + 1) for row in scored)
    columns = min(BINS, length)
    by_age = any(row["moment"] == "checkpoint" for row in scored)
    ages = min(BINS, len({row["edits"] for row in scored if row["moment"] != "immediate"})) if by_age else 1
    cells: dict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in scored:
        y = 0 if row["moment"] == "immediate" else 1 + _age(row) * ages // length
        cells[y, row["position"] * columns // length].append(row)
    grid: list[list[Rows]] = [[cells.get((y, x), []) for x in range(columns)] for y in range(1 + ages)]
    return {
        "by": "age" if by_age else "moment",
        "x": _ranges(1, length, columns),
        "y": ["right after", *(_ranges(0, length, ages) if by_age else ["at the end"])],
        "n": [[len(cell) for cell in line] for line in grid],
        **{kind: [[_mean(cell, headline.get(kind)) for cell in line] for line in grid] for kind in HEADLINES},
    }


def _running_means(rows: Rows) -> Curve:
    names = dict.fromkeys(name for row in rows for name in row["scores"])
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    curve: Curve = {name: [] for name in ("edits", *names)}
    for index, row in enumerate(rows):
        for name, value in row["scores"].items():
            number = finite(value)
            if number is not None:
                sums[name] += number
                counts[name] += 1
        if index + 1 < len(rows) and rows[index + 1]["edits"] == row["edits"]:
            continue  # the batch is not over
        curve["edits"].append(row["edits"])
        for name in names:
            curve[name].append(_rounded(sums[name] / counts[name]) if counts[name] else None)
    return curve


def _means_by_edits(rows: Rows) -> Curve:
    """Means of what was scored at one number of edits; where a checkpoint falls on the end, of the final rows."""
    found: dict[str, dict[int, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        for name, value in _named(row):
            if (number := finite(value)) is not None:
                found[name][int(row["edits"])][row["moment"]].append(number)
    at = sorted({edits for by_edits in found.values() for edits in by_edits})
    curve: Curve = {"edits": [*at]}
    for name, by_edits in found.items():
        moments = [by_edits.get(edits, {}) for edits in at]
        numbers = [one.get("final") or next(iter(one.values()), []) for one in moments]
        curve[name] = [_rounded(fmean(several)) if several else None for several in numbers]
    return curve


def _named(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A row's scores, with what was scored before their names, where it is no record."""
    if "texts" in row:
        yield from ((f"{row['texts']}.{name}", value) for name, value in row["scores"].items() if name not in COUNTS)
    elif "ability" in row:
        yield from ((f"ability.{row['ability']}.{name}", value) for name, value in row["scores"].items())
    else:
        yield from row["scores"].items()


def _spread(count: int, points: int) -> list[int]:
    """Evenly spaced indices, this many at most, the first and the last among them."""
    if count <= points:
        return list(range(count))
    return [round(index * (count - 1) / (points - 1)) for index in range(points)]


def _age(row: Mapping[str, Any]) -> int:
    return max(0, int(row["edits"]) - int(row["position"]) - 1)


def _mean(rows: Rows, measure: str | None) -> float | None:
    numbers = [number for row in rows if (number := finite(row["scores"].get(measure))) is not None]
    return _rounded(fmean(numbers)) if numbers else None


def _rounded(value: float) -> float:
    """With as many digits as a chart can show."""
    return float(f"{value:.{_DIGITS}g}")


def finite(value: Any) -> float | None:
    """The value if it is a number, not NaN and not infinite."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _ranges(first: int, length: int, bins: int) -> list[str]:
    """Labels for `length` whole numbers from `first` in equal bins: "1–5", "6–10"."""
    starts = [-(-index * length // bins) + first for index in range(bins + 1)]
    return [f"{low}–{high - 1}" if high - low > 1 else str(low) for low, high in zip(starts, starts[1:], strict=False)]
