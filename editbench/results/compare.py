"""Paired comparison of two methods on the same records: difference, 95 % interval and p-value.

The p-value is that of a permutation test: were the two methods alike, a record's two values could be swapped (all swaps
of up to 12 differing records are tried, 10,000 random ones of more). The interval of the difference is Gaffke's over
records (:mod:`editbench.results.intervals`), with one more record that one method has wholly wrong and the other wholly
right; several seeds add their spread. Both keep a record's values together, so the score is tested like any mean.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from editbench.files import ResultsError
from editbench.json_lines import read_lines
from editbench.results import identity
from editbench.results.intervals import Floats, drawn_means, ends, with_spread
from editbench.results.leaderboard import SEPARATOR
from editbench.results.run_folder import read_run
from editbench.results.schema import DIFFERENCE, HEADLINES, SCHEMA, SCORES_FILE, Cell, Row
from editbench.results.summary import harmonic_mean
from editbench.results.table_layout import TESTED, Marks, best_row, comparable

LEVEL = 0.05

_EXACT = 12  # differing records of which all swaps, 4,096, are tried
_SWAPS = 10_000
_BLOCK = 2**22  # numbers in memory at once


class Comparison(TypedDict):
    """Means a and b of one measure of two methods, over the records that both have a number for."""

    a: float
    b: float
    difference: float  # a - b
    low: float  # ends of its 95 % interval
    high: float
    p_value: float  # of the permutation test, two-sided
    pairs: int  # records behind it


class _Side(NamedTuple):
    name: str
    parts: identity.Parts  # of all its runs; empty of schema 1
    seeds: tuple[int, ...]
    records: dict[str, list[float]]  # by id: a value for each headline measure, NaN where there is none
    runs: Floats  # (seeds, 3): each run's means of the headline measures
    edits: tuple[int, ...]  # numbers of edits in the model when its runs ended, each once


def compare_runs(
    a: str | Path | Sequence[str | Path], b: str | Path | Sequence[str | Path], *, force: bool = False, seed: int = 0
) -> dict[str, Comparison]:
    """Compare two methods after the last edit, by each headline measure and by score.

    Two methods that were not measured alike (model, data, stream, formulas, seeds) are refused by the name of what
    differs. A measure that no record has on both sides is missing, and so is a score without all three.

    Args:
        a: Run folder; or run folders of several seeds, where a record's value is its mean over the seeds, and a seed's
            the mean of its runs.
        b: As ``a``.
        force: Compare the records that the two have in common, even if seeds, records or parts differ
            (:data:`editbench.results.identity.OWN` may anyway).
        seed: Of the random swaps and of the interval.
    """
    sides = [_read_side([one] if isinstance(one, (str, Path)) else one) for one in (a, b)]
    if not force:
        _refuse_difference(*sides)
    shared = sorted(sides[0].records.keys() & sides[1].records.keys())
    first, second = (
        np.array([side.records[record] for record in shared]).reshape(-1, len(HEADLINES)) for side in sides
    )
    unpaired = ~(np.isfinite(first) & np.isfinite(second))
    first[unpaired] = second[unpaired] = np.nan
    columns = np.flatnonzero(~unpaired.all(axis=0))
    if not len(columns):
        raise ResultsError("no record has a headline measure in both runs; compare finished runs of one stream")
    runs = [side.runs[:, columns] for side in sides]
    return _compare(first[:, columns], second[:, columns], runs, [HEADLINES[column] for column in columns], seed)


def marks(rows: Sequence[Row], folders: Mapping[Path, Row]) -> Marks:
    """Find the figures that are worse than the best one beside them, at 0.05 with Holm's correction in each column.

    ``rows`` are rows of `collect_folders`'s ``folders``, grouped over seeds or not.
    """
    by_hash = {row["content_hash"]: folder for folder, row in folders.items()}
    tests: dict[tuple[Cell, Cell], dict[str, Comparison]] = {}  # by content hashes: the best and the other
    worse: set[tuple[Cell, str]] = set()
    untested: list[str] = []
    for rivals in comparable(rows):
        for column in TESTED:
            if (best := best_row(rivals, column)) is None:
                continue
            p_values: dict[Cell, float] = {}
            for row in rivals:
                if row is best or row["status"] != "done":
                    continue
                pair = (best["content_hash"], row["content_hash"])
                if pair not in tests:
                    try:
                        tests[pair] = compare_runs(*(_folders(hashes, by_hash) for hashes in pair))
                    except ResultsError as error:
                        tests[pair] = {}
                        untested.append(f"Not tested: {row['run']} beside {best['run']}: {error}.")
                if column in tests[pair]:
                    p_values[row["content_hash"]] = tests[pair][column]["p_value"]
            worse |= {(hashes, column) for hashes in holm(p_values)}
    return Marks(frozenset(worse), tuple(untested))


def holm(p_values: Mapping[Cell, float], level: float = LEVEL) -> set[Cell]:
    """Names of the tests that Holm's step-down procedure (1979) rejects at this level."""
    rejected: set[Cell] = set()
    for name in sorted(p_values, key=lambda name: p_values[name]):
        if p_values[name] > level / (len(p_values) - len(rejected)):
            break
        rejected.add(name)
    return rejected


def _folders(hashes: Cell, by_hash: Mapping[Cell, Path]) -> list[Path]:
    wanted = str(hashes).split(SEPARATOR)
    if missing := [one for one in wanted if one not in by_hash]:
        raise ResultsError(f"{len(missing)} of its runs are not in these results folders")
    return [by_hash[one] for one in wanted]


def _read_side(folders: Sequence[str | Path]) -> _Side:
    values: dict[str, dict[int, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    described: dict[Path, identity.Parts] = {}
    means: dict[int, list[list[float]]] = defaultdict(list)
    edits = set[int]()
    for folder in map(Path, folders):
        info = read_run(folder)
        if info["status"] == "damaged":
            raise ResultsError(str(info["reason"]))
        provenance = info["provenance"]
        seed = int(provenance.get("seed") or 0)
        described[folder] = dict(provenance.get("parts") or {})
        headline = provenance.get("protocol", {}).get("headline", {})
        rows: list[list[float]] = []
        for row in read_lines(folder / SCORES_FILE)[0]:
            if row["stage"] == "final" and "record" in row:
                numbers = [row["scores"].get(headline.get(kind)) for kind in HEADLINES]
                rows.append([np.nan if number is None else number for number in numbers])
                values[row["record"]][seed].append(rows[-1])
                edits.add(int(row["edits"]))
        means[seed].append([_mean(column) for column in np.array(rows).reshape(-1, len(HEADLINES)).T])
    name = ", ".join(map(str, described))
    parts = next(iter(described.values()))
    for other in described.values():
        if found := identity.differences(parts, other):
            raise ResultsError(f"{name} are no seeds of one method: {identity.listed(found)}")
    seeds = tuple(sorted(means))
    # Mean over the means of a record's seeds; NaN if any is, or the two sides would be means over different seeds.
    by_record = {
        record: np.mean([np.mean(of_one, axis=0) for of_one in seen.values()], axis=0).tolist()
        for record, seen in values.items()
    }
    runs = np.array([np.mean(means[seed], axis=0) for seed in seeds])
    return _Side(name, parts, seeds, by_record, runs, tuple(sorted(edits)))


def _mean(column: Floats) -> float:
    numbers = column[np.isfinite(column)]
    return float(np.mean(numbers)) if len(numbers) else math.nan


def _refuse_difference(a: _Side, b: _Side) -> None:
    remedy = "compare runs that agree in it, or force the comparison"
    for side in (a, b):
        if not side.parts:
            unknown = f"{side.name} was made before schema {SCHEMA} and does not say with what"
            raise ResultsError(f"{unknown}; run it again, or force the comparison")
    if found := identity.differences(*(identity.without(side.parts, identity.OWN) for side in (a, b))):
        raise ResultsError(f"the two were not measured alike: {identity.listed(found)}; {remedy}")
    if a.seeds != b.seeds:
        first, second = (", ".join(map(str, side.seeds)) for side in (a, b))
        raise ResultsError(f"the seeds differ: {first} of the first, {second} of the second; {remedy}")
    if a.records.keys() != b.records.keys():
        first, second = (str(len(one.records.keys() - other.records.keys())) for one, other in ((a, b), (b, a)))
        raise ResultsError(f"the records differ: {first} only in the first, {second} only in the second; {remedy}")
    if a.edits != b.edits:
        first, second = (" and ".join(map(str, side.edits)) for side in (a, b))
        raise ResultsError(f"the first ended with {first} edits in the model, the second with {second}; {remedy}")


def _compare(a: Floats, b: Floats, runs: list[Floats], names: list[str], seed: int) -> dict[str, Comparison]:
    """Compare values (R, M) of two methods: records by measures, NaN on both sides where one has no number.

    The interval includes the spread of each method's runs (S, M) over seeds, where there are several.
    """
    scored = tuple(names) == HEADLINES
    means_a, means_b = (_with_score(np.nanmean(one, axis=0)[None], scored)[0] for one in (a, b))
    observed = means_a - means_b
    of_a, of_b = ([_with_score(means.T, scored).T for means in drawn_means(one, seed)] for one in (a, b))
    intervals = ends(of_a[0] - of_b[1], of_a[1] - of_b[0], observed)
    if several := [_with_score(side, scored) for side in runs if len(side) > 1]:
        variance = np.sum([side.var(axis=0, ddof=1) / len(side) for side in several], axis=0)
        intervals = with_spread(observed, intervals, variance, min(map(len, several)) - 1, DIFFERENCE)
    extreme, swaps = np.zeros(len(observed)), 0
    for differences in _swapped(a, b, scored, seed):
        extreme += (np.abs(differences) >= np.abs(observed) - 1e-12).sum(axis=0)
        swaps += len(differences)
    pairs = np.isfinite(a).sum(axis=0)
    columns = np.stack([means_a, means_b, observed, *intervals, extreme / swaps], axis=1).tolist()
    counts = [*pairs.tolist(), int(pairs.min())]
    return {
        name: Comparison(a=first, b=second, difference=difference, low=low, high=high, p_value=p_value, pairs=count)
        for name, (first, second, difference, low, high, p_value), count in zip(
            [*names, "score"], columns, counts, strict=False
        )
    }


def _swapped(a: Floats, b: Floats, scored: bool, seed: int) -> Iterator[Floats]:
    """Differences of the means, a - b, with records swapped, the actual ones first: blocks of (swaps, measures)."""
    count = np.isfinite(a).sum(axis=0)
    middle = np.nanmean((a + b) / 2, axis=0)
    half = np.nan_to_num((a - b) / 2)
    half = half[half.any(axis=1)]  # (D, M): swapping equals changes nothing
    for signs in _signs(len(half), seed):
        shift = signs @ half / count
        above, below = np.maximum(middle + shift, 0.0), np.maximum(middle - shift, 0.0)  # rounding: no -1e-17
        yield _with_score(above, scored) - _with_score(below, scored)


def _signs(records: int, seed: int) -> Iterator[Floats]:
    """Signs of the records, -1 where swapped, as blocks of (swaps, records); the first row swaps none."""
    if records <= _EXACT:
        bits = np.arange(2**records)[:, None] >> np.arange(records) & 1
        yield np.where(bits, -1.0, 1.0)
        return
    yield np.ones((1, records))
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK // records)
    for start in range(0, _SWAPS, size):
        yield np.where(rng.random((min(size, _SWAPS - start), records)) < 0.5, -1.0, 1.0)


def _with_score(means: Floats, scored: bool) -> Floats:
    """(N, M) means, and their harmonic mean as a last column if they are the three that make the score."""
    return np.column_stack([means, harmonic_mean(means)]) if scored else means
