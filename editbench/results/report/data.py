"""One run for the report: its row in the table, its provenance, and the rows that curves and records are made from."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from editbench.files import ResultsError, explained
from editbench.json_lines import read_lines
from editbench.results.curves import COUNTS, curves, finite, heat_map
from editbench.results.run_folder import read_info
from editbench.results.schema import CONFIG_FILE, HEADLINES, SCORES_FILE
from editbench.results.seeds import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from editbench.results.schema import Cell, Row

    Rows = Sequence[Mapping[str, Any]]


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
    Column("hparams", "hparams"),
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
        stage, _, name = column.partition(".")
        of_interval = name.endswith(("_n", "_low", "_high")) and column.rpartition("_")[0] in row
        counted = name.startswith("texts.") and name.endswith(tuple(f".{count}" for count in COUNTS))
        if stage == "final" and not (of_interval or counted) and (number := finite(value)) is not None:
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


RECORD_BYTES = 700_000
"""Bytes of all records together; plotly takes 4.8 MB, and the page should stay below 6 MB."""

TEXT_LENGTH = 400
"""Characters of a prompt or answer; more are cut off, and counted."""

_NOTHING = -1


class _Texts:
    """Texts, each stored once."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def __call__(self, text: Any) -> int:
        """The index of this text; -1 of None."""
        return _NOTHING if text is None else self.index.setdefault(clip(str(text), TEXT_LENGTH), len(self.index))


def browse(runs: Sequence[Rows], headlines: Sequence[Mapping[str, str]], limit: int = RECORD_BYTES) -> dict[str, Any]:
    """The record browser's data.

    Args:
        runs: Each run's rows.
        headlines: Which measure stands for each of `HEADLINES`, run by run.
        limit: Bytes that it may take.

    Returns:
        "texts", which all else names by index (-1: none); "stride", the distance of the records shown; and "runs": for
        each "total" and "rows": [position, id, status, reason, headline values right after, and at the end, probes]. A
        probe is [kind, prompt, wanted, answer before, right after, whether that is right, at the end, whether that is].
    """
    found = [_records(rows) for rows in runs]
    longest = max((len(records) for records in found), default=0)
    stride = 1
    while True:
        texts = _Texts()
        shown = [
            [_record(stages, headline, texts) for stages in records[::stride]]
            for records, headline in zip(found, headlines, strict=True)
        ]
        counted = [{"total": len(records), "rows": rows} for records, rows in zip(found, shown, strict=True)]
        data = {"stride": stride, "texts": list(texts.index), "runs": counted}
        if len(json.dumps(data, separators=(",", ":"))) <= limit:
            return data
        if stride >= longest:
            return {"stride": stride, "texts": [], "runs": [{**one, "rows": []} for one in counted]}
        stride = max(stride + 1, stride * 5 // 4)


def _records(rows: Rows) -> list[dict[str, Mapping[str, Any]]]:
    """Each record's rows right after its edit and at the end, by stage, in the order of the stream."""
    records: dict[tuple[int, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if "record" in row and row["stage"] in ("immediate", "final"):
            records.setdefault((row["position"], row["record"]), {})[row["stage"]] = row
    return [records[key] for key in sorted(records)]


def _record(stages: Mapping[str, Mapping[str, Any]], headline: Mapping[str, str], texts: _Texts) -> list[Any]:
    immediate, final = stages.get("immediate", {}), stages.get("final", {})
    last = final or immediate
    after, end = ({(one["kind"], one["prompt"]): one for one in row.get("probes") or ()} for row in (immediate, final))
    return [
        last["position"],
        texts(last["record"]),
        texts(last["status"]),
        texts(last.get("reason")),
        *([_rate(row.get("scores", {}).get(headline.get(kind))) for kind in HEADLINES] for row in (immediate, final)),
        [_probe(after.get(key, {}), end.get(key, {}), texts) for key in {**after, **end}],
    ]


def _probe(after: Mapping[str, Any], end: Mapping[str, Any], texts: _Texts) -> list[int]:
    either = {**after, **end}
    return [
        *(texts(either.get(name)) for name in ("kind", "prompt", "target", "before")),
        *(value for probe in (after, end) for value in (texts(probe.get("answer")), _right(probe))),
    ]


def _rate(value: Any) -> float | None:
    number = finite(value)
    return None if number is None else round(number, 3)


def _right(probe: Mapping[str, Any]) -> int:
    """1 if every token of the answer is the target's, 0 if not, -1 if it was not asked."""
    correct = probe.get("correct")
    return int(all(correct)) if isinstance(correct, list) and correct else _NOTHING


_SETTING_LENGTH = 60


def settings_that_vary(rows: Sequence[Row]) -> list[dict[str, float | str]]:
    """For each run the settings in which runs of its method differ, by their names on the command line.

    A number stays one. Lists of texts are told by their lengths if these tell them apart ("method.negatives (count)"),
    and everything else by its JSON, with a digest if it is long.
    """
    methods: dict[Cell, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        methods[row["method"]].append(index)
    found: list[dict[str, float | str]] = [{} for _ in rows]
    for runs in methods.values():
        settings = {index: _settings(rows[index]) for index in runs}
        for name in sorted({name for one in settings.values() for name in one}):
            values = {index: one[name] for index, one in settings.items() if name in one}
            if len(set(map(_json, values.values()))) > 1:
                for index, (label, value) in _told(name, values).items():
                    found[index][label] = value
    return found


def _settings(row: Row) -> dict[str, Any]:
    method = json.loads(str(row["method_config"])) if row["method_config"] else {}
    stream = {f"stream.{name}": row[name] for name in ("edits", "batch_size") if row[name] is not None}
    return {**{f"method.{name}": value for name, value in method.items()}, **stream}


def _told(name: str, values: dict[int, Any]) -> dict[int, tuple[str, float | str]]:
    """Name and value of a setting, run by run."""
    if all(isinstance(value, list) and all(isinstance(one, str) for one in value) for value in values.values()):
        counts = {_json(value): len(value) for value in values.values()}
        if len(set(counts.values())) == len(counts):
            return {index: (f"{name} (count)", len(value)) for index, value in values.items()}
    return {index: (name, _number_or_text(value)) for index, value in values.items()}


def _number_or_text(value: Any) -> float | str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    text = value if isinstance(value, str) and value else _json(value)
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:4]
    return text if len(text) <= _SETTING_LENGTH else f"{text[:_SETTING_LENGTH]}… ({digest})"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
