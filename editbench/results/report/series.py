"""Scored rows to what charts show: curves over the number of edits, and heat maps of edit age by stream position."""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from editbench.results.schema import HEADLINES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Rows = Sequence[Mapping[str, Any]]

POINTS = 200
"""Points of a curve; of a longer stream, evenly spaced ones are kept."""
BINS = 20
"""Bins of a heat map's axis."""
_DIGITS = 4


def curves(rows: Rows, headline: Mapping[str, str]) -> dict[str, dict[str, list[float | None]]]:
    """Headline measures over the number of edits.

    Returns:
        "immediate": the mean over all records so far, each scored right after its own edit. "checkpoints": the mean
        over the records scored at a checkpoint, or at the end; with the plain texts' perplexity and, as
        "ability.<test>.<metric>", general ability, where they were measured. Each has "edits" and a list for each
        measure, as long.
    """
    scored = [row for row in rows if row.get("status") == "scored"]
    immediate = sorted((row for row in scored if row["moment"] == "immediate"), key=lambda row: int(row["edits"]))
    later = _by_edits(row for row in scored if row["moment"] in ("checkpoint", "final"))
    texts = _by_edits(row for row in rows if row.get("texts") == "plain")
    tests: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if "ability" in row:
            tests[row["ability"]].append(row)
    able = {test: _by_edits(several) for test, several in tests.items()}
    at = sorted({*later, *texts, *(edits for of_test in able.values() for edits in of_test)})
    points: dict[str, list[float | None]] = {
        kind: [_mean(later.get(edits, ()), headline.get(kind)) for edits in at] for kind in HEADLINES
    }
    points["perplexity"] = [_mean(texts.get(edits, ()), "perplexity") for edits in at]
    for test, of_test in able.items():
        for name in tests[test][0]["scores"]:
            points[f"ability.{test}.{name}"] = [_mean(of_test.get(edits, ()), name) for edits in at]
    return {"immediate": _running_means(immediate, headline), "checkpoints": {"edits": [*at], **points}}


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


def _running_means(rows: Rows, headline: Mapping[str, str]) -> dict[str, list[float | None]]:
    sums, counts = dict.fromkeys(HEADLINES, 0.0), dict.fromkeys(HEADLINES, 0)
    curve: dict[str, list[float | None]] = {name: [] for name in ("edits", *HEADLINES)}
    for index, row in enumerate(rows):
        for kind in HEADLINES:
            number = finite(row["scores"].get(headline.get(kind, "")))
            if number is not None:
                sums[kind] += number
                counts[kind] += 1
        if index + 1 < len(rows) and rows[index + 1]["edits"] == row["edits"]:
            continue  # the batch is not over
        curve["edits"].append(row["edits"])
        for kind in HEADLINES:
            curve[kind].append(round(sums[kind] / counts[kind], _DIGITS) if counts[kind] else None)
    kept = _spread(len(curve["edits"]))
    return {name: [values[index] for index in kept] for name, values in curve.items()}


def _spread(count: int) -> list[int]:
    """Evenly spaced indices, `POINTS` at most, the first and the last among them."""
    if count <= POINTS:
        return list(range(count))
    return [round(index * (count - 1) / (POINTS - 1)) for index in range(POINTS)]


def _by_edits(rows: Iterable[Mapping[str, Any]]) -> dict[int, Rows]:
    """Rows by the number of edits; where a checkpoint falls on the end, the final rows."""
    groups: dict[int, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[int(row["edits"])][row["moment"]].append(row)
    return {edits: moments.get("final") or next(iter(moments.values())) for edits, moments in groups.items()}


def _age(row: Mapping[str, Any]) -> int:
    return max(0, int(row["edits"]) - int(row["position"]) - 1)


def _mean(rows: Rows, measure: str | None) -> float | None:
    numbers = [number for row in rows if (number := finite(row["scores"].get(measure))) is not None]
    return round(fmean(numbers), _DIGITS) if numbers else None


def finite(value: Any) -> float | None:
    """The value if it is a number, not NaN and not infinite."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _ranges(first: int, length: int, bins: int) -> list[str]:
    """Labels for `length` whole numbers from `first` in equal bins: "1–5", "6–10"."""
    starts = [-(-index * length // bins) + first for index in range(bins + 1)]
    return [f"{low}–{high - 1}" if high - low > 1 else str(low) for low, high in zip(starts, starts[1:], strict=False)]
