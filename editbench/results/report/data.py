"""Data of the report's page: table rows, curves, settings that vary, provenance, and records within a byte limit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from editbench.files import ResultsError, read_bytes
from editbench.json_lines import read_lines
from editbench.results.columns import COLUMNS, COUNTS, KINDS, finite, mapping_in, measure, measure_of, split
from editbench.results.curves import curves, heat_map
from editbench.results.labels import label_value, labels_of, titles_of
from editbench.results.report.hidden_shift import shift_of
from editbench.results.run_folder import read_info
from editbench.results.schema import CONFIG_FILE, HEADLINES, SCORES_FILE, Row

if TYPE_CHECKING:
    Rows = Sequence[Mapping[str, Any]]


RECORD_BYTES = 700_000  # of all records together; plotly takes 4.8 MB, and the page should stay below 6 MB
TEXT_LENGTH = 400  # characters of a prompt or answer; more are cut off, and counted
_MAX_TEXT = 4000
_MAX_SETTING = 60
_NOTHING = -1

SHOWN = (
    *("run", "status", "method", "hparams", "model", "dataset", "protocol", "mode"),
    *("edits", "batch_size", "seed", "score"),
    *HEADLINES,
    *("coverage", "score_penalised", "collapsed_at", "perplexity_ratio"),
    *("seconds_per_edit", "bytes_per_edit", "question_seconds", "latency_ratio"),
)
"""Columns of the page's table, before those of labels that are none of these."""


class Run(NamedTuple):
    """A run in the report."""

    shown: dict[str, Any]  # its data in the page: table row, curves, final measures, heat map, hidden shift, …
    rows: list[dict[str, Any]]  # of scores.jsonl; none of a run that cannot be trusted
    facts: Mapping[str, Mapping[str, Any]]  # of its metrics, by name


def read_run(folder: Path, row: Row) -> Run:
    """Read the data of one run; of a damaged one only its row."""
    provenance, config, rows = dict[str, Any](), "", list[dict[str, Any]]()
    if row["status"] != "damaged":
        try:
            info, (found, _) = read_info(folder), read_lines(folder / SCORES_FILE)
            config = read_bytes(folder / CONFIG_FILE).decode("utf-8", "replace")
            provenance, rows = info["provenance"], found
        except ResultsError as error:
            row = {**row, "status": "damaged", "reason": str(error)}
    protocol = provenance.get("protocol")
    headline = protocol.get("headline", {}) if isinstance(protocol, dict) else {}
    shown = {
        "cells": {name: finite(cell) if isinstance(cell := row.get(name), float) else cell for name in SHOWN},
        "intervals": _intervals(row),
        "reason": clip(str(row["reason"] or "")),
        "headline": headline,
        "curves": curves(rows),
        "final": _final(row),
        "heat": heat_map(rows, headline),
        "shift": shift_of(folder) if rows else None,
        "provenance": [[name, clip(text)] for name, text in _flat(provenance, "")],
        "config": clip(config),
    }
    return Run(shown, rows, mapping_in(row, "metrics"))


def label_columns(rows: Sequence[Row], read: Sequence[Run]) -> tuple[list[str], list[dict[str, Any]]]:
    """Names of the labels in which runs may differ, and the table's columns; labels enter the runs' cells."""
    labels = [name for name in labels_of(rows) if name not in ("method", "seeds")]
    more = [name for name in labels if name not in SHOWN]
    for row, run in zip(rows, read, strict=True):
        run.shown["cells"] |= {name: label_value(row, name) for name in more}
    titles = dict(zip(labels, titles_of(labels), strict=True))
    first = SHOWN.index("score")
    return labels, [
        {"name": name, "title": COLUMNS[name].title, "digits": COLUMNS[name].digits}
        if name in COLUMNS
        else {"name": name, "title": titles[name], "digits": None}
        for name in (*SHOWN[:first], *more, *SHOWN[first:])
    ]


def clip(text: str, length: int = _MAX_TEXT) -> str:
    """`text`, cut to this length, with the number of missing characters."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text) - length} more characters)"


def _final(row: Row) -> dict[str, float]:
    """All measures after the last edit, by their names in curves."""
    facts, found = mapping_in(row, "metrics"), {}
    for name, value in row.items():
        counted = name.startswith("final.texts.") and name.rpartition(".")[2] in COUNTS
        figure = name.startswith("final.") and not counted and not split(name, facts)[1]
        if figure and (number := finite(value)) is not None:
            found[measure_of(name)] = number
    return found


def _intervals(row: Row) -> dict[str, list[float]]:
    """The ends of the intervals of the table's columns and of all measures after the last edit, by their names."""
    found = {}
    for name in (*SHOWN, *(name for name in row if name.startswith("final."))):
        low, high = (finite(row.get(f"{name}_{end}")) for end in ("low", "high"))
        if low is not None and high is not None:
            found[name.removeprefix("final.")] = [low, high]
    return found


def measures_of(runs: Iterable[Run]) -> dict[str, dict[str, Any]]:
    """The measures that charts can draw, with titles, range and kind of axis, by probe kind in the order of `KINDS`."""
    known: dict[str, Mapping[str, Mapping[str, Any]]] = {name: {} for name in ("score", *HEADLINES)}
    for run in runs:
        parts = (*run.shown["curves"].values(), run.shown["final"])
        known |= {name: run.facts for part in parts for name in part if "." in name and name not in known}
    kinds = [*KINDS, *(name.partition(".")[0] for name in known)]
    found = {}
    for name in sorted(known, key=lambda name: kinds.index(name.partition(".")[0])):
        (kind, _, metric), one = name.partition("."), measure(name, known[name])
        titles = {"kind": kind, "kind_title": KINDS.get(kind, kind), "metric": metric, "title": one.title}
        metric_title = known[name].get(metric, {}).get("title", metric)
        found[name] = {**titles, "metric_title": metric_title, "range": one.range, "log": one.log}
    return found


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Every value of a tree of mappings with its dotted path."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


class _Texts(dict[str, int]):
    """Texts, each stored once, with their indices."""

    def __call__(self, text: Any) -> int:
        """The index of this text; -1 of None."""
        return _NOTHING if text is None else self.setdefault(clip(str(text), TEXT_LENGTH), len(self))


def browse(runs: Sequence[Rows], headlines: Sequence[Mapping[str, str]], limit: int = RECORD_BYTES) -> dict[str, Any]:
    """The record browser's data, of at most `limit` bytes.

    "texts" are named by index everywhere else (-1: none); "stride" is the distance of the records shown; "runs" have
    "total" and "rows", which `readRecord` of records.js unpacks.
    """
    found = [_records(rows) for rows in runs]
    longest = max((len(records) for records in found), default=0)
    stride = 1
    while True:
        texts = _Texts()
        counted = [
            {"total": len(records), "rows": [_record(stages, headline, texts) for stages in records[::stride]]}
            for records, headline in zip(found, headlines, strict=True)
        ]
        data = {"stride": stride, "texts": list(texts), "runs": counted}
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
        *(
            [_rounded(row.get("scores", {}).get(headline.get(kind))) for kind in HEADLINES]
            for row in (immediate, final)
        ),
        [_probe(after.get(key, {}), end.get(key, {}), texts) for key in {**after, **end}],
    ]


def _probe(after: Mapping[str, Any], end: Mapping[str, Any], texts: _Texts) -> list[int]:
    either = {**after, **end}
    return [
        *(texts(either.get(name)) for name in ("kind", "prompt", "target", "before")),
        *(value for probe in (after, end) for value in (texts(probe.get("answer")), _right(probe))),
    ]


def _rounded(value: Any) -> float | None:
    return None if (number := finite(value)) is None else round(number, 3)


def _right(probe: Mapping[str, Any]) -> int:
    """1 if every token of the answer is the target's, 0 if not, -1 if it was not asked."""
    correct = probe.get("correct")
    return int(all(correct)) if isinstance(correct, list) and correct else _NOTHING


def settings_that_vary(rows: Sequence[Row]) -> list[dict[str, float | str]]:
    """For each run the settings in which runs of its method differ, by their names on the command line.

    Numbers are kept. A list of strings is shown as its length if the lengths differ between runs ("method.negatives
    (count)"), everything else as its JSON, with a digest if it is long.
    """
    settings, found = [_settings(row) for row in rows], [dict[str, float | str]() for _ in rows]
    for method in {row["method"] for row in rows}:
        runs = [index for index, row in enumerate(rows) if row["method"] == method]
        for name in sorted({name for index in runs for name in settings[index]}):
            values = {index: settings[index][name] for index in runs if name in settings[index]}
            if len(set(map(_json, values.values()))) > 1:
                for index, (label, value) in _shown_values(name, values).items():
                    found[index][label] = value
    return found


def _settings(row: Row) -> dict[str, Any]:
    method = mapping_in(row, "method_config")
    stream = {f"stream.{name}": row[name] for name in ("edits", "batch_size") if row[name] is not None}
    return {**{f"method.{name}": value for name, value in method.items()}, **stream}


def _shown_values(name: str, values: dict[int, Any]) -> dict[int, tuple[str, float | str]]:
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
    return text if len(text) <= _MAX_SETTING else f"{text[:_MAX_SETTING]}… ({digest})"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
