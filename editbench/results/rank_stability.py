"""Does the order of methods survive another seed, metric, protocol, or other settings? Kendall's τ of two orders.

The interval is over records: all means are drawn again with random weights over the records (Rubin 1981, as in
:mod:`editbench.results.intervals`), the same ones for all runs of the same records, and each draw gives a τ. It says
how far the order rests on the records at hand, and is no statement on other methods.

Source: Kendall 1945, "The treatment of ties in ranking problems", Biometrika 33 (τ-b).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from editbench.files import ResultsError
from editbench.json_lines import read_lines
from editbench.results.columns import column, finite, mapping_in
from editbench.results.identity import LABELS, differences, digest_or_own, listed
from editbench.results.intervals import TAIL, Floats, weighted_means
from editbench.results.run_folder import read_info
from editbench.results.schema import HEADLINES, SCORES_FILE, Row
from editbench.results.selection import check_columns
from editbench.results.summary import harmonic_mean

METRIC, SEED, SCORE = "metric", "seed", "score"
Orders = dict[str, dict[str, Floats]]  # by what is varied, and by method: its mean, then means of weighted records


class RecordScores(NamedTuple):
    """What the records of one run have."""

    records: list[str]  # R ids, in order
    values: Floats  # (R, measures): more is better, NaN where a record has none
    known: list[str]  # measures that could be asked for


Reader = Callable[[Path, Sequence[str]], RecordScores]  # the run's path, and measures


@dataclass(frozen=True)
class Agreement:
    """Two orders of the methods that both have."""

    task: dict[str, str]  # columns in which all runs behind it agree
    measure: str
    a: str  # a value of what is varied
    b: str
    order_a: str  # "scen > rome = memit"
    order_b: str
    methods: int
    tau: float | None  # None if one order has all methods equal
    low: float | None  # ends of its 95 % interval
    high: float | None
    reversed: list[str]  # pairs in opposite order, as "scen, rome": the first is ahead in a


def agreements(
    runs: Mapping[Path, Row], over: str, measures: Sequence[str] = (SCORE,), read: Reader | None = None
) -> list[Agreement]:
    """Compare the orders of methods under each two values of a column, or of each two measures (``over="metric"``).

    Args:
        runs: Rows by run folder; those that are not done do not count, nor those that ended early as collapsed, which
            are of fewer edits. Several seeds of one method are averaged.
        over: Column of the leaderboard that is varied, all others of the task being equal; or "metric".
        measures: "score", "reliability", "generality", "locality", or measures such as "rewrite.exact_match".
        read: Gives the scores of a run's records, by the path that stands in ``runs``; by default `final_scores`.

    Raises:
        ResultsError: A method has several settings where one is wanted, a measure is in no run, or nothing can be
            compared.
    """
    done = {folder: row for folder, row in runs.items() if row["status"] == "done" and row.get("collapsed_at") is None}
    if over != METRIC:
        check_columns([over], list(done.values()))
    elif len(measures) < 2:
        raise ResultsError("the order by one metric cannot be compared; name two or more, as --measures score,locality")
    found: list[Agreement] = []
    for task, sides in _tasks(done, over).items():
        figures = {side: {m: _figures(of[m], measures, read or final_scores) for m in of} for side, of in sides.items()}
        if over == METRIC:
            [methods] = figures.values()
            orders = {name: {m: methods[m][at] for m in methods} for at, name in enumerate(measures)}
            found += _pairs(dict(task), METRIC, orders)
        else:
            for at, name in enumerate(measures):
                orders = {side: {m: of[m][at] for m in of} for side, of in figures.items()}
                found += _pairs(dict(task), name, orders)
    if not found:
        raise ResultsError(f"no two values of {over} have two methods in common; nothing can be compared")
    return found


def _tasks(runs: Mapping[Path, Row], over: str) -> dict[tuple[tuple[str, str], ...], dict[str, dict[str, list[Path]]]]:
    """Run folders by task, by value of what is varied, and by method."""
    found: dict[tuple[tuple[str, str], ...], dict[str, dict[str, list[Path]]]] = {}
    alike: dict[tuple[object, ...], Row] = {}
    for folder, row in runs.items():
        task = tuple((name, str(row[name])) for name in LABELS if name != over)
        side, method = "" if over == METRIC else str(row[over]), str(row["method"])
        found.setdefault(task, {}).setdefault(side, {}).setdefault(method, []).append(folder)
        one_identity = (task, method) if over == SEED else (task, side, method)  # no seed is part of an identity
        _refuse_other_settings(alike.setdefault(one_identity, row), row)
    return found


def _refuse_other_settings(first: Row, second: Row) -> None:
    """Refuse two runs of a method that are not two seeds of one identity."""
    if digest_or_own(first, "identity") == digest_or_own(second, "identity"):
        return
    names = f"{first['method']} has runs with different settings for one task ({first['run']}, {second['run']})"
    found = listed(differences(*(mapping_in(row, "parts") for row in (first, second))))
    raise ResultsError(f"{names}: {found or 'no run of schema 1 says with what it was made'}: choose with --where")


def final_scores(folder: Path, measures: Sequence[str]) -> RecordScores:
    """The scores at the end of the records of a run folder."""
    info = read_info(folder)
    headline = info["provenance"].get("protocol", {}).get("headline") or {}
    names = [headline.get(name, name) for name in measures]
    rows = [row for row in read_lines(folder / SCORES_FILE)[0] if row["stage"] == "final" and "record" in row]
    rows.sort(key=lambda row: str(row["record"]))
    numbers = [[row["scores"].get(name) for name in names] for row in rows]
    values = np.array(numbers, dtype=np.float64).reshape(-1, len(names))  # None becomes NaN
    for at, name in enumerate(names):
        if column(name, info["metrics"]).higher_is_better is False:
            values[:, at] *= -1
    return RecordScores([str(row["record"]) for row in rows], values, _known(rows))


def _figures(folders: Iterable[Path], measures: Sequence[str], read: Reader) -> Floats:
    """(M, 1 + DRAWS) of each measure: the mean over records, then the draws; means over the runs."""
    means: Floats = np.mean([_of_run(read, folder, measures) for folder in folders], axis=0)
    return means


def _of_run(read: Reader, folder: Path, measures: Sequence[str]) -> Floats:
    names = (*HEADLINES, *(name for name in measures if name not in (*HEADLINES, SCORE)))
    records, values, known = read(folder, names)
    for name in set(names) & set(measures):
        if not np.isfinite(values[:, names.index(name)]).any():
            raise ResultsError(f"{folder} has no {name}; its rows have {', '.join(known)}")
    seed = hashlib.sha256("\n".join(records).encode()).digest()
    drawn = dict(zip(names, weighted_means(values, int.from_bytes(seed[:8], "big")), strict=True))
    drawn[SCORE] = harmonic_mean(np.stack([drawn[name] for name in HEADLINES], axis=1))
    found: Floats = np.stack([drawn[name] for name in measures])
    return found


def _known(rows: Sequence[Mapping[str, dict[str, float]]]) -> list[str]:
    return sorted({name for row in rows for name in row["scores"]})


def _pairs(task: dict[str, str], measure: str, orders: Orders) -> list[Agreement]:
    found = []
    for a, b in combinations(orders, 2):
        shared = [m for m in orders[a] if m in orders[b] and np.isfinite([orders[a][m][0], orders[b][m][0]]).all()]
        if len(shared) < 2:
            continue
        first, second = (np.stack([orders[side][m] for m in shared]) for side in (a, b))
        taus = kendall(first, second)
        known = taus[1:][np.isfinite(taus[1:])]
        low, high = np.quantile(known, [TAIL, 1 - TAIL]) if len(known) else (np.nan, np.nan)
        ahead = _ahead(first[:, 0]), _ahead(second[:, 0])
        swapped = [f"{shared[i]}, {shared[j]}" for i, j in np.argwhere((ahead[0] == 1) & (ahead[1] == -1))]
        order_a, order_b = (_in_words(dict(zip(shared, side[:, 0], strict=True))) for side in (first, second))
        tau, lowest, highest = map(finite, (taus[0], low, high))
        found.append(Agreement(task, measure, a, b, order_a, order_b, len(shared), tau, lowest, highest, swapped))
    return found


def _ahead(figures: Floats) -> Floats:
    """(M, M, ...): 1 where the method of the row is ahead of that of the column, -1 where it is behind."""
    return np.sign(figures[:, None] - figures[None])


def kendall(a: Floats, b: Floats) -> Floats:
    """Kendall's τ-b (D,) of each column of figures (M, D) of the same M methods; NaN where one has them all equal."""
    upper = np.triu_indices(len(a), 1)
    first, second = np.sign(a[upper[0]] - a[upper[1]]), np.sign(b[upper[0]] - b[upper[1]])  # (pairs, D)
    with np.errstate(invalid="ignore"):
        tau: Floats = (first * second).sum(0) / np.sqrt((first**2).sum(0) * (second**2).sum(0))
    return tau


def _in_words(figures: Mapping[str, float]) -> str:
    ordered = sorted(figures, key=lambda method: (-figures[method], method))
    signs = ["", *(" = " if figures[x] == figures[y] else " > " for x, y in zip(ordered, ordered[1:], strict=False))]
    return "".join(sign + method for sign, method in zip(signs, ordered, strict=True))
