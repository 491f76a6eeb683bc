"""From rows to numbers: means over records, bootstrap intervals, the score.

A row holds the averages within one record; here they are averaged over records. Records that are unsupported, failed or
skipped enter no average and are counted beside it. A value that was NaN or infinite enters no average either and is
counted as `nonfinite`.

Intervals are percentile bootstrap intervals over records (Efron and Tibshirani 1993, section 13.3): whole records are
drawn with replacement, so that all measures of a resample come from the same records, and the score's interval keeps
their correlation.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from editbench.results.schema import HEADLINES, RECORD_STATUSES, Measure, MomentSummary, ResultsError, Score, Summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = Sequence[Mapping[str, Any]]

VERSION = 1
"""Changes with the intervals."""
RESAMPLES = 2000
INTERVAL = (2.5, 97.5)  # percentiles
NORMAL = 1.96  # standard errors on either side
_BLOCK = 2**22  # numbers drawn at once: bounds the memory


def summarise(rows: Iterable[Mapping[str, Any]], headline: Mapping[str, str], seed: int = 0) -> Summary:
    """Average a run's rows, moment by moment.

    Args:
        rows: `ScoreRow`s, `TextRow`s and `AbilityRow`s, as stored or before.
        headline: Which measure stands for each of `HEADLINES`, as {"reliability": "rewrite.exact_match", ...}. One
            that is not named has no mean, and without all three there is no score.
        seed: Seed of the bootstrap.

    Raises:
        ResultsError: If a headline name is unknown, a headline mean is negative, or a record was scored twice at the
            same moment.
    """
    if unknown := sorted(set(headline) - set(HEADLINES)):
        raise ResultsError(f"unknown headline {unknown}; choose among {HEADLINES}")
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["moment"], row["edits"] if row["moment"] == "checkpoint" else 0].append(row)
    parts = {key: _summarise_moment(groups[key], headline, seed) for key in sorted(groups)}
    return {
        "headline": dict(headline),
        "seed": seed,
        "resamples": RESAMPLES,
        "baseline": parts.get(("baseline", 0)),
        "immediate": parts.get(("immediate", 0)),
        "final": parts.get(("final", 0)),
        "checkpoints": [part for (moment, _), part in parts.items() if moment == "checkpoint"],
    }


def _summarise_moment(rows: Rows, headline: Mapping[str, str], seed: int) -> MomentSummary:
    records = [row for row in rows if "record" in row]
    texts = sorted((row for row in rows if "texts" in row), key=lambda row: int(row["edits"]))
    able = [row for row in rows if "ability" in row]
    _refuse_repeats(rows[0]["moment"], [f"record {row['record']!r} (position {row['position']})" for row in records])
    _refuse_repeats(rows[0]["moment"], [f"texts {row['texts']!r} (edits {row['edits']})" for row in texts])
    _refuse_repeats(rows[0]["moment"], [f"ability {row['ability']!r} (edits {row['edits']})" for row in able])
    scored = [row for row in records if row["status"] == "scored"]
    names = sorted({name for row in scored for name in row["scores"]})
    values = np.array([[_finite(row["scores"].get(name)) for name in names] for row in scored], dtype=np.float64)
    values = values.reshape(len(scored), len(names))  # (R, M): records by measures; NaN where there is no number
    draws = resampled_means(values, seed)
    measures = {name: _measure(values[:, m], draws[:, m], _nonfinite(name, scored)) for m, name in enumerate(names)}
    no_values = values[:0].ravel()
    columns = [names.index(headline[kind]) for kind in HEADLINES if headline.get(kind) in names]
    return {
        "moment": rows[0]["moment"],
        "edits": max(row["edits"] for row in rows),
        "records": {status: sum(row["status"] == status for row in records) for status in RECORD_STATUSES},
        "left_out": dict(sum((Counter(row.get("left_out") or {}) for row in records), Counter[str]())),
        "measures": measures,
        "headline": {
            kind: measures.get(headline.get(kind, ""), _measure(no_values, no_values, 0)) for kind in HEADLINES
        },
        **_score(columns, values, draws),
        "texts": {row["texts"]: {name: _finite(value) for name, value in row["scores"].items()} for row in texts},
        "ability": {row["ability"]: {name: _of_ability(row, name) for name in row["scores"]} for row in able},
    }


def resampled_means(values: Floats, seed: int) -> Floats:
    """Means of bootstrap resamples of the rows: (R, M) -> (RESAMPLES, M).

    A resample's mean is over the numbers in it; it is NaN where the resample holds none. The indices drawn depend on
    the seed and R only, so measures of the same records are resampled alike.
    """
    count, width = values.shape
    means = np.full((RESAMPLES, width), np.nan)
    if count == 0:
        return means
    rng = np.random.default_rng(seed)
    present = np.isfinite(values).astype(np.float64)
    filled = np.where(present, values, 0.0)
    block = max(1, _BLOCK // count)
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        weight = times @ present  # how many numbers each mean is over
        np.divide(times @ filled, weight, out=means[start : start + size], where=weight > 0)
    return means


def harmonic_mean(means: Floats) -> Floats:
    """Harmonic mean over the last axis; 0 where any is 0, NaN where any is NaN.

    Raises:
        ResultsError: If any is negative.
    """
    if np.any(means < 0):
        raise ResultsError("a headline mean is negative; choose measures between 0 and 1 as headline measures")
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(means.shape[-1] / np.sum(1.0 / means, axis=-1), dtype=np.float64)


def _measure(column: Floats, draws: Floats, nonfinite: int) -> Measure:
    numbers = column[np.isfinite(column)]
    low, high = interval(draws)
    mean = _finite(np.mean(numbers)) if len(numbers) else None
    return {"mean": mean, "low": low, "high": high, "n": len(numbers), "nonfinite": nonfinite}


def _of_ability(row: Mapping[str, Any], name: str) -> Measure:
    """A test's metric with its normal 95 % interval, mean ± 1.96 standard errors."""
    mean, error = (_finite(row[of].get(name)) for of in ("scores", "stderr"))
    half = None if mean is None or error is None else NORMAL * error
    low, high = (None, None) if mean is None or half is None else (mean - half, mean + half)
    return {"mean": mean, "low": low, "high": high, "n": int(row["n"]), "nonfinite": _nonfinite(name, [row])}


def _score(columns: list[int], values: Floats, draws: Floats) -> Score:
    """The score of the three headline measures, which stand in these columns; nothing if one of them has no number."""
    counts = np.isfinite(values[:, columns]).sum(axis=0)
    if len(columns) < len(HEADLINES) or not counts.all():
        return {"score": None, "score_n": 0, "score_low": None, "score_high": None, "score_arithmetic": None}
    means = np.nanmean(values[:, columns], axis=0)
    low, high = interval(harmonic_mean(draws[:, columns]))
    return {
        "score": _finite(harmonic_mean(means)),
        "score_n": int(counts.min()),
        "score_low": low,
        "score_high": high,
        "score_arithmetic": _finite(means.mean()),
    }


def interval(draws: Floats) -> tuple[float | None, float | None]:
    """The 95 % percentile interval of these draws; None where none of them is a number."""
    numbers = draws[np.isfinite(draws)]
    if not len(numbers):
        return None, None
    low, high = np.percentile(numbers, INTERVAL)
    return float(low), float(high)


def _nonfinite(name: str, scored: Rows) -> int:
    """In how many rows this measure was NaN or infinite: as such, or as the null that is stored for it."""
    raw = sum(row["scores"].get(name) is not None and _finite(row["scores"][name]) is None for row in scored)
    return raw + sum(name in row.get("nonfinite", ()) for row in scored)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _refuse_repeats(moment: str, keys: list[str]) -> None:
    if repeated := [key for key, times in Counter(keys).items() if times > 1]:
        raise ResultsError(
            f"{repeated[0]} was scored more than once at the moment {moment!r}; "
            "a resumed run drops what it will score again with RunStore.truncate_after"
        )
