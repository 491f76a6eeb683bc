"""Rows of the results to what a tracker shows. Pure: nothing here knows a service, a clock or a file.

Curves over the number of edits made:

    immediate/<headline>      mean over all records so far, each scored right after its own batch
    retained/<headline>       mean over the records scored at a checkpoint, or at the end
    perplexity/<texts>        at the start, at checkpoints and at the end
    ability/<test>/<metric>   likewise
    drift/<what>              how far weights and hidden states have moved, at checkpoints and at the end
    footprint/<where>         bytes that the method keeps, likewise
    cost/seconds_per_edit     of the last batch; cost/edit_seconds: of all batches so far
    unedited                  records so far that the method does not support or failed on
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from editbench.progress import Standing
from editbench.results.schema import HEADLINES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Row = Mapping[str, Any]

Points = dict[int, dict[str, float]]
"""Number of edits to the values there, by the name of the curve."""

_TABLED = ("immediate", "final")


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
        self._looking_back: tuple[tuple[str, int], Means] | None = None  # moment and edits, and the means there so far
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
                points[edits].update(self._look_back_done((row["moment"], edits)))
                points[edits].update(_of_ability(row) if "ability" in row else _of_texts(row["texts"], row["scores"]))
                self._note_perplexity(row)
            elif row["status"] == "scored" and row["moment"] == "immediate":
                self._immediate.add(row)
                points[edits].update(self._immediate.values("immediate"))
            elif row["status"] == "scored":
                self._means_at((row["moment"], edits)).add(row)
        return {edits: values for edits, values in sorted(points.items()) if values}

    def standing(self) -> Standing:
        """Where the run stands after all rows so far."""
        means = {"so far": self._immediate, **self._looked_back}
        counted = {occasion: of_it.counted() for occasion, of_it in means.items()}
        return Standing(self._edits, self._unedited, counted, dict(self._perplexity))

    def _note_perplexity(self, row: Row) -> None:
        if "texts" in row and (now := finite(row["scores"].get("perplexity"))) is not None:
            if row["moment"] == "baseline":
                self._perplexity[row["texts"]] = now, now
            elif row["texts"] in self._perplexity:
                self._perplexity[row["texts"]] = self._perplexity[row["texts"]][0], now

    def _means_at(self, at: tuple[str, int]) -> Means:
        if self._looking_back is None or self._looking_back[0] != at:
            self._looking_back = at, Means(self._headline)
            moment, edits = at
            self._looked_back = {"at the end" if moment == "final" else f"after {edits} edits": self._looking_back[1]}
        return self._looking_back[1]

    def _look_back_done(self, at: tuple[str, int]) -> dict[str, float]:
        if self._looking_back is None or self._looking_back[0] != at:
            return {}
        means, self._looking_back = self._looking_back[1], None
        return means.values("retained")


class RecordTable:
    """One row a record: what it scored right after its own batch, and at the end."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, Any]] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Take in score rows; those of other moments, and text rows, are passed over."""
        for row in rows:
            if row.get("moment") in _TABLED and "record" in row:
                at = {"position": row["position"], "record": row["record"]}
                seen = self._rows.setdefault(row["position"], at)
                seen.update(status=row["status"], reason=row.get("reason"))
                scores = row["scores"] if row["status"] == "scored" else {}
                seen.update({f"{row['moment']}/{name}": finite(value) for name, value in scores.items()})

    def rows(self) -> list[dict[str, Any]]:
        """The rows by position, all with the same columns."""
        columns = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        columns = [*columns[:4], *sorted(columns[4:])]
        return [{name: row.get(name) for name in columns} for _, row in sorted(self._rows.items())]


def flat_summary(summary: Mapping[str, Any], costs: Mapping[str, Any]) -> dict[str, float]:
    """A run's `Summary` and `Costs` as single numbers: "final/score", "final/reliability/mean", "cost/edit_seconds"."""
    flat: dict[str, float] = {}
    for moment in ("baseline", "immediate", "final"):
        part = summary.get(moment)
        if not part:
            continue
        flat |= _named(moment, {"score": part["score"], "score_arithmetic": part["score_arithmetic"]})
        for kind, measure in part["headline"].items():
            flat |= _named(f"{moment}/{kind}", {key: measure[key] for key in ("mean", "low", "high", "n")})
        flat |= _named(f"{moment}/records", part["records"])
        for texts, scores in part["texts"].items():
            flat |= _named(moment, _of_texts(texts, scores))
        for test, metrics in part.get("ability", {}).items():
            flat |= _named(f"{moment}/ability/{test}", {name: one["mean"] for name, one in metrics.items()})
    flat |= _named("cost", {name: value for name, value in costs.items() if name != "footprint"})
    return flat | _named("footprint", costs.get("footprint") or {})


def finite(value: Any) -> float | None:
    """The value if it is a number, not NaN and not infinite."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _of_texts(name: str, scores: Row) -> dict[str, float]:
    """Of texts their perplexity; of what else is kept in this form, drift and footprint, every number."""
    if "perplexity" in scores:
        return _named("perplexity", {name: scores["perplexity"]})
    return _named(name, scores)


def _of_ability(row: Row) -> dict[str, float]:
    return _named(f"ability/{row['ability']}", row["scores"])


def _named(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Those values that are numbers, with a prefix before their names."""
    return {f"{prefix}/{name}": n for name, value in values.items() if (n := finite(value)) is not None}
