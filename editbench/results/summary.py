"""Summary of a run's rows: means over records, their 95 % intervals, the score.

Records that are unsupported, failed or skipped enter no average and are counted apart; so is, as `nonfinite`, a value
that was NaN or infinite. Intervals (:mod:`editbench.results.intervals`) are over records: Gaffke's of shares and of the
score, with the same weights for all measures, so that the score's keeps their correlation; Student's of the others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from editbench.files import ResultsError
from editbench.results.columns import finite
from editbench.results.intervals import DRAWS, Drawn, Floats, drawn_means, ends, of_items, unbounded
from editbench.results.schema import HEADLINES, RECORD_STATUSES, SHARE, Estimate, Range, Score, StageSummary, Summary

if TYPE_CHECKING:
    Rows = Sequence[Mapping[str, Any]]


_ROUNDING = 1e-9  # distance outside its range that a number may have


def summarise(
    rows: Iterable[Mapping[str, Any]],
    headline: Mapping[str, str],
    seed: int = 0,
    ranges: Mapping[str, Range] | None = None,
) -> Summary:
    """Average a run's rows of records and of the model, stage by stage.

    Args:
        rows: As stored, or before.
        headline: The measure of each of `HEADLINES`, as {"reliability": "rewrite.exact_match", ...}; without all three
            there is no score.
        seed: Of the intervals' weights.
        ranges: By measure ("edit.value_found") or metric ("exact_match"); headline measures are shares.
    """
    if unknown := sorted(set(headline) - set(HEADLINES)):
        raise ResultsError(f"unknown headline {unknown}; choose among {HEADLINES}")
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    known = {**(ranges or {}), **dict.fromkeys(headline.values(), SHARE)}
    of_ability: dict[str, Range] = {}
    rows = list(rows)
    for row in rows:
        groups[row["stage"], row["edits"] if row["stage"] == "interim" else 0].append(row)
        of_ability |= {f"{row['of']}.{name}": within for name, within in row.get("ranges", {}).items()}
    parts = {key: _summarise_stage(groups[key], headline, seed, known) for key in sorted(groups)}
    return {
        "headline": dict(headline),
        "seed": seed,
        "resamples": DRAWS,
        "ranges": {name: (low, high) for name, (low, high) in {**known, **of_ability}.items()},
        "before": parts.get(("before", 0)),
        "immediate": parts.get(("immediate", 0)),
        "final": parts.get(("final", 0)),
        "interim": [part for (stage, _), part in parts.items() if stage == "interim"],
        "nonfinite": _first_nonfinite(rows),
    }


def _summarise_stage(rows: Rows, headline: Mapping[str, str], seed: int, ranges: Mapping[str, Range]) -> StageSummary:
    records = [row for row in rows if "record" in row]
    models = sorted((row for row in rows if "of" in row), key=lambda row: int(row["edits"]))
    scorings = [f"record {row['record']!r} (position {row['position']})" for row in records]
    scorings += [f"{row['of']} (edits {row['edits']})" for row in models]
    if repeated := [scoring for scoring, times in Counter(scorings).items() if times > 1]:
        raise ResultsError(
            f"{repeated[0]} was scored more than once at the stage {rows[0]['stage']!r}; "
            "a resumed run drops what it will score again with RunFolder.truncate_after"
        )
    scored = [row for row in records if row["status"] == "scored"]
    names = sorted({name for row in scored for name in row["scores"]})
    values = np.array([[finite(row["scores"].get(name)) for name in names] for row in scored], dtype=np.float64)
    values = values.reshape(len(scored), len(names))  # (R, M): records by measures; NaN where there is no number
    intervals, of_shares = _intervals(names, values, ranges, seed)
    measures = {name: _measure(values[:, m], intervals[:, m], _nonfinite(name, scored)) for m, name in enumerate(names)}
    nothing: Estimate = {"mean": None, "low": None, "high": None, "n": 0, "nonfinite": 0}
    columns = [names.index(headline[kind]) for kind in HEADLINES if headline.get(kind) in names]
    return {
        "stage": rows[0]["stage"],
        "edits": max(row["edits"] for row in rows),
        "records": {status: sum(row["status"] == status for row in records) for status in RECORD_STATUSES},
        "left_out": dict(sum((Counter(row.get("left_out") or {}) for row in records), Counter[str]())),
        "measures": measures,
        "headline": {kind: measures.get(headline.get(kind, ""), nothing) for kind in HEADLINES},
        **_score(columns, values, of_shares),
        "model": {row["of"]: {name: _of_model(row, name) for name in row["scores"]} for row in models},
    }


def _intervals(names: list[str], values: Floats, ranges: Mapping[str, Range], seed: int) -> tuple[Floats, Drawn]:
    """The measures' ends (2, M), and their drawn means: NaN without a range."""
    found, drawn = unbounded(values), Drawn(*np.full((2, len(names), DRAWS), np.nan))
    columns: dict[Range, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        if within := ranges.get(name) or ranges.get(name.partition(".")[2]):
            low, high = within
            column = values[:, index]
            if len(outside := column[(column < low - _ROUNDING) | (column > high + _ROUNDING)]):
                raise ResultsError(
                    f"{name} is {outside[0]:g} in a record, which is not between {low:g} and {high:g}; the metric "
                    "declares another range than it has, or a headline measure is no share (none may be negative or "
                    "above 1)"
                )
            columns[within].append(index)
    for within, at in columns.items():
        inside = np.clip(values[:, at], *within)
        drawn.low[at], drawn.high[at] = part = drawn_means(inside, seed, within)
        found[:, at] = ends(*part, [np.nanmean(column) if np.isfinite(column).any() else np.nan for column in inside.T])
    return found, drawn


def harmonic_mean(means: Floats) -> Floats:
    """Harmonic mean over the last axis; 0 where any is 0, NaN where any is NaN."""
    if np.any(means < 0):
        raise ResultsError("a headline mean is negative; choose measures between 0 and 1 as headline measures")
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(means.shape[-1] / np.sum(1.0 / means, axis=-1), dtype=np.float64)


def _measure(column: Floats, interval: Floats, nonfinite: int) -> Estimate:
    numbers = column[np.isfinite(column)]
    low, high = map(finite, interval)
    mean = finite(np.mean(numbers)) if len(numbers) else None
    return {"mean": mean, "low": low, "high": high, "n": len(numbers), "nonfinite": nonfinite}


def _of_model(row: Mapping[str, Any], name: str) -> Estimate:
    """One score of a row of the model, with a 95 % interval over the items if it has a standard error."""
    mean, n = finite(row["scores"].get(name)), int(row.get("n", 0))
    error = finite(row.get("stderr", {}).get(name))
    low, high = None, None
    if mean is not None and error is not None:
        within = row.get("ranges", {}).get(name)
        low, high = map(finite, of_items(mean, error, n, None if within is None else tuple(within)))
    return {"mean": mean, "low": low, "high": high, "n": n, "nonfinite": _nonfinite(name, [row])}


def _score(columns: list[int], values: Floats, drawn: Drawn) -> Score:
    """The score of the three headline measures in these columns; no value if one of them has no number."""
    counts = np.isfinite(values[:, columns]).sum(axis=0)
    if len(columns) < len(HEADLINES) or not counts.all():
        return {"score": None, "score_n": 0, "score_low": None, "score_high": None, "score_arithmetic": None}
    means = np.nanmean(values[:, columns], axis=0)
    score = harmonic_mean(means)
    low, high = ends(harmonic_mean(drawn.low[columns].T), harmonic_mean(drawn.high[columns].T), score)
    return {
        "score": finite(float(score)),
        "score_n": int(counts.min()),
        "score_low": finite(low),
        "score_high": finite(high),
        "score_arithmetic": finite(means.mean()),
    }


def _nonfinite(name: str, scored: Rows) -> int:
    """The number of rows in which this measure came from NaN or infinity: it is such, is null for it, or is a 0."""
    raw = (row["scores"].get(name) is not None and finite(row["scores"][name]) is None for row in scored)
    return sum(found or name in row.get("nonfinite", ()) for found, row in zip(raw, scored, strict=True))


def _first_nonfinite(rows: Rows) -> dict[str, int] | None:
    """Batch, and number of edits, after which a record first got no numbers from the edited model."""
    found = (row for row in rows if row["stage"] != "before" and row["scores"].keys() & set(row.get("nonfinite", ())))
    first = min((row for row in found if "record" in row), key=lambda row: int(row["batch"]), default=None)
    return None if first is None else {"batch": int(first["batch"]), "edits": int(first["edits"])}
