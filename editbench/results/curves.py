"""Curves over the number of edits, for trackers, the terminal and the report; heat maps by edit age."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from editbench.progress import LiveStatus
from editbench.results.columns import COUNTS, finite
from editbench.results.schema import HEADLINES

if TYPE_CHECKING:
    Row = Mapping[str, Any]
    Rows = Sequence[Row]


POINTS = 200  # of a curve at most
VALUES = 40_000  # of all curves together at most
BINS = 20  # of a heat map's axis
_DIGITS = 5

Curve = dict[str, list[float | None]]  # numbers of edits, as "edits", and as many values of each measure
Points = dict[int, dict[str, float]]  # number of edits to the values there, by the name of the curve


class Means:
    """Running means by name; a value that is no finite number enters no mean."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, values: Mapping[str, Any]) -> None:
        """Add one value by name."""
        for name, value in values.items():
            if (number := finite(value)) is not None:
                self._sums[name] += number
                self._counts[name] += 1

    def counted(self) -> dict[str, tuple[float, int]]:
        """The means so far, each with the number of values behind it."""
        return {name: (self._sums[name] / count, count) for name, count in self._counts.items()}

    def means(self, prefix: str = "") -> dict[str, float]:
        """The means so far."""
        return {f"{prefix}{name}": mean for name, (mean, _) in self.counted().items()}


class LiveCurves:
    """Points of a run's curves from its rows, in the order of writing; ``headline`` has the headline measures."""

    def __init__(self, headline: Mapping[str, str]) -> None:
        self._headline = {kind: headline[kind] for kind in HEADLINES if kind in headline}
        self._edits, self._unedited, self._seconds = 0, 0, 0.0
        self._immediate = Means()
        self._stage: tuple[str, int] = ("", 0)  # the last other stage of records, and its number of edits
        self._retained = Means()
        self._pending = False  # whether the means of that stage have no point yet
        self._perplexity: dict[str, tuple[float, float]] = {}

    def edit(self, row: Row) -> Points:
        """The point of an edit row."""
        count = len(row["ids"])
        self._edits += count
        self._seconds += row["seconds"]
        self._unedited += len(row.get("skipped") or ()) + len(row.get("failed") or ())
        values = {"cost/seconds_per_edit": row["seconds"] / max(1, count), "cost/edit_seconds": self._seconds}
        return {self._edits: {**values, "unedited": float(self._unedited)}}

    def rows(self, rows: Iterable[Row]) -> Points:
        """The points of record and model rows.

        Records of an evaluation point may come in parts; their means follow with the model's first row there.
        """
        points: Points = defaultdict(dict)
        for row in rows:
            at = (row["stage"], row["edits"])
            if "record" not in row:
                if self._pending and at == self._stage:
                    points[at[1]].update(self._retained.means("retained/"))
                    self._pending = False
                points[at[1]].update(of_model(row["of"], row["scores"]))
                now, texts = finite(row["scores"].get("perplexity")), row["of"].removeprefix("perplexity.")
                start = now if row["stage"] == "before" else self._perplexity.get(texts, (None,))[0]
                if now is not None and start is not None:
                    self._perplexity[texts] = start, now
            elif row["status"] == "scored":
                scores = {kind: row["scores"].get(measure) for kind, measure in self._headline.items()}
                if at[0] == "immediate":
                    self._immediate.add(scores)
                    points[at[1]].update(self._immediate.means("immediate/"))
                    continue
                if not (self._pending and at == self._stage):
                    self._stage, self._retained, self._pending = at, Means(), True
                self._retained.add(scores)
        return {edits: values for edits, values in sorted(points.items()) if values}

    def status(self) -> LiveStatus:
        """The state of the run after all rows so far."""
        stage, edits = self._stage
        means = {"so far": self._immediate.counted()}
        if stage:
            means["at the end" if stage == "final" else f"after {edits} edits"] = self._retained.counted()
        return LiveStatus(self._edits, self._unedited, means, dict(self._perplexity))


def of_model(of: str, scores: Row) -> dict[str, float]:
    """The perplexity of texts, or every number of anything else: "perplexity/plain", "ability/sst2/acc", "drift/…"."""
    if of.startswith("perplexity."):
        return named("perplexity", {of.removeprefix("perplexity."): scores["perplexity"]})
    return named(of.replace(".", "/", 1), scores)


def named(prefix: str, values: Row) -> dict[str, float]:
    """The values that are numbers, with a prefix before their names."""
    return {f"{prefix}/{name}": n for name, value in values.items() if (n := finite(value)) is not None}


def curves(rows: Rows) -> dict[str, Curve]:
    """Every measure over the number of edits.

    "immediate": the mean over all records so far, each scored right after its own edit. "interim": the mean over the
    records scored at an evaluation point, or at the end; and scores of the model, also before the first edit.
    """
    scored = [row for row in rows if row.get("status", "scored") == "scored"]  # only a record may be anything else
    running, immediate = Means(), {}
    for row in sorted((row for row in scored if row["stage"] == "immediate"), key=lambda row: int(row["edits"])):
        running.add(row["scores"])
        immediate[int(row["edits"])] = running.means()
    later: dict[int, dict[str, Means]] = defaultdict(dict)
    for row in scored:
        if row["stage"] != "immediate":
            later[int(row["edits"])].setdefault(row["stage"], Means()).add(_scores(row))
    points = {at: means for at in sorted(later) if (means := _latest(later[at]))}
    return {"immediate": _curve(immediate), "interim": _curve(points)}


def _latest(stages: dict[str, Means]) -> dict[str, float]:
    """Means of the records scored after one number of edits; at the end of the stream those of the final stage."""
    by_rank = sorted(reversed(stages), key=lambda stage: stage == "final")
    return {name: mean for stage in by_rank for name, mean in stages[stage].means().items()}


def _scores(row: Row) -> dict[str, Any]:
    if "of" not in row:
        return dict(row["scores"])
    of = row["of"].removeprefix("perplexity.")
    return {f"{of}.{name}": value for name, value in row["scores"].items() if name not in COUNTS}


def _curve(points: Mapping[int, Mapping[str, float]]) -> Curve:
    names = dict.fromkeys(name for values in points.values() for name in values)
    values = {name: [_rounded(point[name]) if name in point else None for point in points.values()] for name in names}
    return {"edits": [*points], **values}


def reduce_points(all_curves: Iterable[dict[str, Curve]], limit: int = VALUES) -> None:
    """Leave out points, evenly, until a curve has at most `POINTS`, and all have at most `limit` values together."""
    every = [curve for of_run in all_curves for curve in of_run.values()]
    points = POINTS
    while points > 2 and sum(len(curve) * min(points, len(curve["edits"])) for curve in every) > limit:
        points = points * 9 // 10
    for curve in every:
        last = len(curve["edits"]) - 1
        if last >= points:
            kept = [round(index * last / (points - 1)) for index in range(points)]  # the first and the last among them
            curve.update({name: [values[index] for index in kept] for name, values in curve.items()})


def heat_map(rows: Rows, headline: Mapping[str, str]) -> dict[str, Any] | None:
    """Headline measures by an edit's position in the stream and by its age, the number of edits made since.

    There are as many ages as evaluation points, so that evenly spaced ones leave no gaps; without any there is only the
    end. The result has "by" ("age" or "stage"), the labels "x" (positions) and "y", a matrix (y, x) of means for each
    measure, None without a record, and "n", the numbers of records.
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
        age = max(0, int(row["edits"]) - int(row["position"]) - 1)
        y = 0 if row["stage"] == "immediate" else 1 + age * ages // length
        cells[y, row["position"] * columns // length].append(row)
    grid: list[list[Rows]] = [[cells.get((y, x), []) for x in range(columns)] for y in range(1 + ages)]
    return {
        "by": "age" if by_age else "stage",
        "x": _ranges(1, length, columns),
        "y": ["right after", *(_ranges(0, length, ages) if by_age else ["at the end"])],
        "n": [[len(cell) for cell in line] for line in grid],
        **{kind: [[_mean(cell, headline.get(kind)) for cell in line] for line in grid] for kind in HEADLINES},
    }


def _mean(rows: Rows, measure: str | None) -> float | None:
    numbers = [number for row in rows if (number := finite(row["scores"].get(measure))) is not None]
    return _rounded(sum(numbers) / len(numbers)) if numbers else None


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _ranges(first: int, length: int, bins: int) -> list[str]:
    """Labels for `length` whole numbers from `first` in equal bins: "1–5", "6–10"."""
    starts = [-(-index * length // bins) + first for index in range(bins + 1)]
    return [f"{low}–{high - 1}" if high - low > 1 else str(low) for low, high in zip(starts, starts[1:], strict=False)]
