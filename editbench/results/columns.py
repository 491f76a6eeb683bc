"""Columns of the leaderboard: title, meaning, digits, direction, aggregation over seeds, tolerance and range.

`columns.json` declares the columns that every run has, and the facts that columns of one kind share. The columns of a
metric ("final.rewrite.exact_match") follow from the facts that run.json and the column `metrics` hold of it
(`MetricFacts`); a metric without facts has the defaults of `Column`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from editbench.results.schema import Range, Row

    Facts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Column:
    """One column: its facts."""

    meaning: str = ""  # description in `results/README.md`
    path: str = ""  # keys of the value in run.json, "/" between them; empty: computed
    title: str = ""  # heading in tables and charts; by default the column's name
    digits: int | None = 3  # behind the point; None: a text, whatever it looks like (version 3.10, hash 12e45)
    higher_is_better: bool | None = None  # None where neither direction is good
    seeds: str = "mean"  # over seeds: "mean" (with "interval"), "sum", "min", "max", or "list" of distinct values
    tolerance: float | None = None  # largest difference from a reference that counts as the same; None: not compared
    relative: bool = False  # whether the tolerance is a share of the reference
    range: Range | None = None  # smallest and largest possible value; None: unknown
    log: bool = False  # whether charts have a logarithmic axis
    is_json: bool = False  # whether the text is JSON


_DECLARED = json.loads((Path(__file__).parent / "columns.json").read_text("utf-8"))


def _column(kind: str = "", **facts: Any) -> Column:
    """A column with its own facts and those of its kind."""
    known = {**_DECLARED["kinds"].get(kind, {}), **facts}
    return Column(**{**known, "range": tuple(known["range"]) if known.get("range") else None})


def _declared(part: str) -> dict[str, Column]:
    return {name: _column(**{"title": name.replace("_", " "), **facts}) for name, facts in _DECLARED[part].items()}


HEAD_COLUMNS, TAIL_COLUMNS = _declared("head"), _declared("tail")  # the columns of metrics stand between them
COLUMNS = {**HEAD_COLUMNS, **TAIL_COLUMNS}

KINDS: dict[str, str] = _DECLARED["probes"]  # titles of probe kinds, in the order of charts
COUNTS = ("texts", "tokens", "questions", "left_out")  # scores of the model that no edit changes

_OF_TEXTS = _declared("texts")
_OF_FACTS = ("digits", "higher_is_better", "seeds", "tolerance", "range")  # fields that a metric's facts declare
_END: dict[str, Any] = {"tolerance": None, "seeds": "interval"}
_ENDS = {"n": {"tolerance": None, "seeds": "min", "digits": 0}, "low": _END, "high": _END}


def column(name: str, facts: Facts | None = None) -> Column:
    """The column of this name; ``facts`` are by metric ("exact_match") or measure ("ability.sst2.acc")."""
    if name in COLUMNS:
        return COLUMNS[name]
    figure, end = split(name, facts)
    return replace(measure(measure_of(figure), facts), **_ENDS.get(end, {}))


def split(name: str, facts: Facts | None = None) -> tuple[str, str]:
    """A column's figure, and "n", "low" or "high" if the column is a count or an end of an interval."""
    figure, _, end = name.rpartition("_")
    return (figure, end) if end in _ENDS and _facts_of(measure_of(name), facts or {}) is None else (name, "")


def measure_of(name: str) -> str:
    """The measure "rewrite.exact_match" of the column "final.rewrite.exact_match"."""
    return name.partition(".")[2].removeprefix("texts.")


def measure(name: str, facts: Facts | None = None) -> Column:
    """The column of a measure: "rewrite.exact_match", "plain.perplexity", "ability.sst2.acc", or a headline measure."""
    if name in COLUMNS:
        return COLUMNS[name]
    kind, _, metric = name.partition(".")
    if metric in _OF_TEXTS:
        return replace(_OF_TEXTS[metric], title=f"{kind} {_OF_TEXTS[metric].title}")
    known = _facts_of(name, facts or {})
    title = f"{KINDS.get(kind, kind)}: {known['title']}" if known and "title" in known else name
    title = KINDS[kind] if name == "subject_fact.agreement" else title  # stands for its probe kind
    declared = {key: value for key, value in (known or {}).items() if key in _OF_FACTS}
    return _column(title=title, **declared)


def _facts_of(name: str, facts: Facts) -> Mapping[str, Any] | None:
    return facts.get(name) or facts.get(name.partition(".")[2])


def mapping_in(row: Row, name: str) -> dict[str, Any]:
    """The object in a row's column of JSON ("metrics", "parts", "missing"); an empty one if there is none."""
    text = row.get(name)
    found = json.loads(text) if isinstance(text, str) else {}
    return found if isinstance(found, dict) else {}


def columns_of(rows: Iterable[Row]) -> list[str]:
    """All columns of these rows in the order of the CSV: first columns, measures by name, last columns."""
    measures = {name for row in rows for name in row} - COLUMNS.keys()
    return [*HEAD_COLUMNS, *sorted(measures), *TAIL_COLUMNS]


def number(row: Row, name: str) -> float | None:
    """A cell's number; None of a text or an empty cell."""
    value = row.get(name)
    return value if isinstance(value, (int, float)) else None


def finite(value: Any) -> float | None:
    """The value as a float; None if it is no number, NaN or infinite."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
