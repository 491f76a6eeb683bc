"""One run for the report: its row in the table, its provenance, and the rows that curves and records are made from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from editbench.results.files import explained, read_lines
from editbench.results.report.series import COUNTS, curves, finite, heat_map
from editbench.results.schema import CONFIG_FILE, SCORES_FILE, ResultsError
from editbench.results.seeds import SEPARATOR
from editbench.results.store import read_info

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from editbench.results.schema import Cell, Row

_TEXT_LENGTH = 4000


class Column(NamedTuple):
    """A column of the report's table: leaderboard column, heading, and the digits of a figure (None: a fact)."""

    name: str
    title: str
    digits: int | None = None


COLUMNS = (
    Column("run", "run"),
    Column("status", "status"),
    Column("method", "method"),
    Column("constants", "constants"),
    Column("model", "model"),
    Column("dataset", "dataset"),
    Column("protocol", "protocol"),
    Column("edits", "edits", 0),
    Column("batch_size", "batch size", 0),
    Column("seed", "seed", 0),
    Column("score", "score", 3),
    Column("reliability", "reliability", 3),
    Column("generality", "generality", 3),
    Column("locality", "locality", 3),
    Column("coverage", "coverage", 2),
    Column("score_penalised", "penalised score", 3),
    Column("perplexity_ratio", "perplexity ratio", 3),
    Column("seconds_per_edit", "seconds per edit", 2),
    Column("bytes_per_edit", "bytes per edit", 0),
)


class Run(NamedTuple):
    """A run as the report needs it.

    Attributes:
        shown: What the page gets: table row, curves, final measures, heat map, provenance, config.
        rows: The rows of scores.jsonl; none of a run that cannot be trusted.
        headline: Which measure stands for reliability, generality and locality.
    """

    shown: dict[str, Any]
    rows: list[dict[str, Any]]
    headline: Mapping[str, str]


def read_run(folder: Path, row: Row) -> Run:
    """Read what the report shows of one run; of a damaged one only its row."""
    if row["status"] == "damaged":
        return _run(row, {}, "", [])
    try:
        info = read_info(folder)
        rows, _ = read_lines(folder / SCORES_FILE)
        with explained("read", folder / CONFIG_FILE, "restore it from a copy, or delete the run"):
            config = (folder / CONFIG_FILE).read_bytes().decode("utf-8", "replace")
    except ResultsError as error:
        return _run({**row, "status": "damaged", "reason": str(error)}, {}, "", [])
    return _run(row, info["provenance"], config, rows)


def _run(row: Row, provenance: Mapping[str, Any], config: str, rows: list[dict[str, Any]]) -> Run:
    protocol = provenance.get("protocol")
    headline = protocol.get("headline", {}) if isinstance(protocol, dict) else {}
    shown = {
        "cells": {column.name: _cell(row.get(column.name)) for column in COLUMNS},
        "intervals": _intervals(row),
        "shares": str(row.get("shares") or "").split(SEPARATOR),
        "reason": clip(str(row["reason"] or "")),
        "headline": headline,
        "curves": curves(rows),
        "final": _final(row),
        "heat": heat_map(rows, headline),
        "provenance": [[name, clip(text)] for name, text in _flat(provenance, "")],
        "config": clip(config),
    }
    return Run(shown, rows, headline)


def clip(text: str, length: int = _TEXT_LENGTH) -> str:
    """`text`, cut to this length; says how much is missing."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text) - length} more characters)"


def _final(row: Row) -> dict[str, float]:
    """All measures after the last edit, by their names in curves."""
    found = {}
    for column, value in row.items():
        moment, _, name = column.partition(".")
        of_interval = name.endswith(("_n", "_low", "_high")) and column.rpartition("_")[0] in row
        counted = name.startswith("texts.") and name.endswith(tuple(f".{count}" for count in COUNTS))
        if moment == "final" and not (of_interval or counted) and (number := finite(value)) is not None:
            found[name.removeprefix("texts.")] = number
    return found


def _intervals(row: Row) -> dict[str, list[float]]:
    """The ends of the intervals of the table's columns and of all measures after the last edit, by their names."""
    found = {}
    for column in (*(column.name for column in COLUMNS), *(name for name in row if name.startswith("final."))):
        low, high = (finite(row.get(f"{column}_{end}")) for end in ("low", "high"))
        if low is not None and high is not None:
            found[column.removeprefix("final.")] = [low, high]
    return found


def _cell(value: Cell) -> Cell:
    return finite(value) if isinstance(value, float) else value


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Every value of a tree of mappings with its dotted path."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
