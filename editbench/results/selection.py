"""Rows by conditions and in an order: `--where` and `--sort` of the leaderboard."""

from __future__ import annotations

import difflib
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from editbench.files import ResultsError
from editbench.results.columns import column, columns_of, mapping_in
from editbench.results.csv_files import text_of, value_of
from editbench.results.identity import LABELS, METHOD, without

if TYPE_CHECKING:
    from editbench.results.schema import Cell, Row

_CONDITION = re.compile(r"\s*(?P<column>[^\s<>=!]+)\s*(?P<sign>!=|>=|<=|=|>|<|\bin\b)\s*(?P<value>.*)", re.DOTALL)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    **{">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le},
}
UNFINISHED = ("failed", "interrupted")
_TASK = (*LABELS, *METHOD, "seed")
_CODE = ("editbench", "torch", "transformers", "versions", "method.version")
"""Parts that are no settings: a run may have failed by what another version mends."""


def where(rows: Sequence[Row], conditions: Iterable[str]) -> list[Row]:
    """The rows that meet all conditions: "method=rome", "method!=rome", "edits>100", "method in rome,memit".

    Numbers are compared as numbers; a cell without a value is neither larger nor smaller than anything.
    """
    every = rows = list(rows)
    for condition in conditions:
        match = _CONDITION.fullmatch(condition)
        if match is None:
            raise ResultsError(f"condition {condition!r} is not of the form column=value; there are = != > < >= <= in")
        name, sign, text = match["column"], match["sign"], match["value"].strip()
        check_columns([name], every)
        _check_order(name, sign, text)
        rows = [row for row in rows if _holds(value_of(name, text_of(row.get(name))), sign, name, text)]
    return rows


def _holds(value: Cell, sign: str, name: str, text: str) -> bool:
    if sign in ("=", "!="):
        return (value == value_of(name, text)) == (sign == "=")
    if sign == "in":
        return value in [value_of(name, one.strip()) for one in text.split(",")]
    return isinstance(value, (int, float)) and _ORDERS[sign](value, value_of(name, text))


def _check_order(name: str, sign: str, text: str) -> None:
    """Refuse an order of texts."""
    if sign in _ORDERS and not isinstance(value_of(name, text), (int, float)):
        texts = column(name).digits is None
        why = f"{name} is compared by = != in, not by {sign}" if texts else f"{text!r} is no number"
        raise ResultsError(f"condition {name}{sign}{text}: {why}")


def check_columns(names: Iterable[str], rows: Sequence[Row]) -> None:
    """Refuse columns that the rows lack, with a did-you-mean."""
    known = columns_of(rows)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ResultsError(f"no column {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def ordered(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """The rows sorted by columns, best or smallest first, "-edits" the other way round; empty cells come last."""
    rows = list(rows)
    names = [name.removeprefix("-") for name in by]
    check_columns(names, rows)
    for name, given in reversed(list(zip(names, by, strict=True))):
        facts = next((found for row in rows if (found := mapping_in(row, "metrics"))), {})
        downwards = bool(column(name, facts).higher_is_better) != given.startswith("-")
        full = [row for row in rows if row.get(name) is not None]
        full.sort(key=lambda row: rank(row[name]), reverse=downwards)
        rows = [*full, *(row for row in rows if row.get(name) is None)]
    return rows


def rank(value: Cell) -> tuple[bool, float, str]:
    """For sorting cells of any kind: numbers by size, then texts."""
    if isinstance(value, (int, float)):
        return (False, float(value), "")
    return (True, 0.0, value or "")


def current(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows, and apart those that did not finish and whose settings a run finished that began no earlier."""
    done: dict[tuple[Cell, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["status"] == "done":
            done[_task(row)].append(row)
    unfinished = [row for row in rows if row["status"] in UNFINISHED]
    past = [row for row in unfinished if any(_replaces(other, row) for other in done[_task(row)])]
    return [row for row in rows if not any(row is one for one in past)], past


def _task(row: Row) -> tuple[Cell, ...]:
    return tuple(row.get(name) for name in _TASK)


def _replaces(done: Row, failed: Row) -> bool:
    """Whether a run of the same task began no earlier, with the same parts, as far as the one that failed had any."""
    known = _settings(failed)
    return _started(done) >= _started(failed) and (not known or known == _settings(done))


def _settings(row: Row) -> dict[str, Any]:
    return without(mapping_in(row, "parts"), _CODE)


def _started(row: Row) -> str:
    return str(row.get("started") or "")
