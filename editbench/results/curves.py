"""Scored rows to what charts show: curves over the number of edits, and heat maps of edit age by stream position."""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from editbench.progress import LiveStatus
from editbench.results.schema import HEADLINES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Rows = Sequence[Mapping[str, Any]]
    Row = Mapping[str, Any]


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
        "immediate": the mean over all records so far, each scored right after its own edit. "interim": the mean
        over the records scored at a checkpoint, or at the end; and sets of texts ("plain.perplexity",
        "unrelated.activation", "drift.hidden_change") and general ability ("ability.<test>.<metric>"), also before the
        first edit.
    """
    scored = [row for row in rows if row.get("status", "scored") == "scored"]  # only a record may be anything else
    immediate = sorted((row for row in scored if row["stage"] == "immediate"), key=lambda row: int(row["edits"]))
    later = [row for row in scored if row["stage"] != "immediate"]
    return {"immediate": _running_means(immediate), "interim": _means_by_edits(later)}


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
        "by" ("age" or "stage"), the labels "x" (positions) and "y", and for each measure a matrix of means, one row a
        label of y, None where there is nothing; "n" is the matrix of the numbers of records.
    """
    scored = [row for row in rows if row.get("status") == "scored" and row["stage"] != "before"]
    if not scored:
        return None
    end = {row["edits"] for row in scored if row["stage"] == "final"}
    scored = [row for row in scored if row["stage"] != "interim" or row["edits"] not in end]  # once is enough
    length = max(max(int(row["edits"]), int(row["position"]) + 1) for row in scored)
    columns = min(BINS, length)
    by_age = any(row["stage"] == "interim" for row in scored)
    ages = min(BINS, len({row["edits"] for row in scored if row["stage"] != "immediate"})) if by_age else 1
    cells: dict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in scored:
        y = 0 if row["stage"] == "immediate" else 1 + _age(row) * ages // length
        cells[y, row["position"] * columns // length].append(row)
    grid: list[list[Rows]] = [[cells.get((y, x), []) for x in range(columns)] for y in range(1 + ages)]
    return {
        "by": "age" if by_age else "stage",
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
        for name, value in _named_scores(row):
            if (number := finite(value)) is not None:
                found[name][int(row["edits"])][row["stage"]].append(number)
    at = sorted({edits for by_edits in found.values() for edits in by_edits})
    curve: Curve = {"edits": [*at]}
    for name, by_edits in found.items():
        stages = [by_edits.get(edits, {}) for edits in at]
        numbers = [one.get("final") or next(iter(one.values()), []) for one in stages]
        curve[name] = [_rounded(fmean(several)) if several else None for several in numbers]
    return curve


def _named_scores(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A row's scores, with what was scored before their names, where it is no record."""
    if "of" in row:
        of = row["of"].removeprefix("perplexity.")
        yield from ((f"{of}.{name}", value) for name, value in row["scores"].items() if name not in COUNTS)
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


Points = dict[int, dict[str, float]]
"""Number of edits to the values there, by the name of the curve."""


class Means:
    """Means of the headline measures over records that come in parts."""

    def __init__(self, headline: Mapping[str, str]) -> None:
        self._headline = headline
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, row: Row) -> None:
        """Take in the score row of one record; a measure that it lacks enters no mean."""
        for kind, measure in self._headline.items():
            if (number := finite(row["scores"].get(measure))) is not None:
                self._sums[kind] += number
                self._counts[kind] += 1

    def values(self, prefix: str) -> dict[str, float]:
        """The means so far."""
        return {f"{prefix}/{kind}": mean for kind, (mean, _) in self.counted().items()}

    def counted(self) -> dict[str, tuple[float, int]]:
        """The means so far, each with the number of records behind it."""
        return {kind: (self._sums[kind] / count, count) for kind, count in self._counts.items()}


class Curves:
    """Turns rows into points, in the order in which the session writes them.

    Args:
        headline: Which measure stands for each of ``HEADLINES``, as {"reliability": "rewrite.exact_match", ...}.
    """

    def __init__(self, headline: Mapping[str, str]) -> None:
        self._headline = {kind: headline[kind] for kind in HEADLINES if kind in headline}
        self._edits, self._unedited, self._seconds = 0, 0, 0.0
        self._immediate = Means(self._headline)
        self._looking_back: tuple[tuple[str, int], Means] | None = None  # stage and edits, and the means there so far
        self._looked_back: dict[str, Means] = {}  # the last such means, by the occasion in words
        self._perplexity: dict[str, tuple[float, float]] = {}

    def edit(self, row: Row) -> Points:
        """The point that an edit row, one batch, adds."""
        count = len(row["ids"])
        self._edits += count
        self._seconds += row["seconds"]
        self._unedited += len(row.get("skipped") or ()) + len(row.get("failed") or ())
        values = {"cost/seconds_per_edit": row["seconds"] / max(1, count), "cost/edit_seconds": self._seconds}
        return {self._edits: {**values, "unedited": float(self._unedited)}}

    def rows(self, rows: Iterable[Row]) -> Points:
        """The points that score rows, text rows and ability rows add.

        The records of a checkpoint may come in several parts; their means follow with the first other row after them.
        """
        points: Points = defaultdict(dict)
        for row in rows:
            edits = row["edits"]
            if "record" not in row:
                points[edits].update(self._look_back_done((row["stage"], edits)))
                points[edits].update(of_model(row["of"], row["scores"]))
                self._note_perplexity(row)
            elif row["status"] == "scored" and row["stage"] == "immediate":
                self._immediate.add(row)
                points[edits].update(self._immediate.values("immediate"))
            elif row["status"] == "scored":
                self._means_at((row["stage"], edits)).add(row)
        return {edits: values for edits, values in sorted(points.items()) if values}

    def status(self) -> LiveStatus:
        """The run after all rows so far."""
        means = {"so far": self._immediate, **self._looked_back}
        counted = {occasion: of_it.counted() for occasion, of_it in means.items()}
        return LiveStatus(self._edits, self._unedited, counted, dict(self._perplexity))

    def _note_perplexity(self, row: Row) -> None:
        if (now := finite(row["scores"].get("perplexity"))) is not None:
            texts = row["of"].removeprefix("perplexity.")
            if row["stage"] == "before":
                self._perplexity[texts] = now, now
            elif texts in self._perplexity:
                self._perplexity[texts] = self._perplexity[texts][0], now

    def _means_at(self, at: tuple[str, int]) -> Means:
        if self._looking_back is None or self._looking_back[0] != at:
            self._looking_back = at, Means(self._headline)
            stage, edits = at
            self._looked_back = {"at the end" if stage == "final" else f"after {edits} edits": self._looking_back[1]}
        return self._looking_back[1]

    def _look_back_done(self, at: tuple[str, int]) -> dict[str, float]:
        if self._looking_back is None or self._looking_back[0] != at:
            return {}
        means, self._looking_back = self._looking_back[1], None
        return means.values("retained")


def of_model(of: str, scores: Row) -> dict[str, float]:
    """Of texts their perplexity, of all else every number: "perplexity/plain", "ability/sst2/acc", "drift/…"."""
    if of.startswith("perplexity."):
        return named("perplexity", {of.removeprefix("perplexity."): scores["perplexity"]})
    return named(of.replace(".", "/", 1), scores)


def named(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Those values that are numbers, with a prefix before their names."""
    return {f"{prefix}/{name}": n for name, value in values.items() if (n := finite(value)) is not None}
