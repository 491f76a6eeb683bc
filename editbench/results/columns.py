"""Columns of the leaderboard: title, meaning, digits, direction, aggregation over seeds, tolerance and range.

`COLUMNS` declares what every run has. The columns of a metric ("final.rewrite.exact_match") follow from the facts that
run.json and the column `metrics` hold of it (`MetricFacts`); a metric without facts has the defaults of `Column`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from editbench.results.schema import SHARE, Range, Row

if TYPE_CHECKING:
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


_text = partial(Column, digits=None, seeds="list")
_whole = partial(Column, digits=0, seeds="list")
_share = partial(Column, higher_is_better=True, range=SHARE)
_cost = partial(Column, digits=0, higher_is_better=False)
_perplexity = partial(Column, higher_is_better=False, relative=True, log=True)


def _with_interval(name: str, figure: Column, counted: str, ends: str) -> dict[str, Column]:
    """A figure, the count behind it and the ends of its interval, at the paths that begin with `ends`."""
    end = replace(figure, **_END)
    return {
        name: figure,
        f"{name}_n": _whole(counted, f"{ends}n", seeds="min"),
        f"{name}_low": replace(end, meaning=f"lower end of the 95 % interval of `{name}`", path=f"{ends}low"),
        f"{name}_high": replace(end, meaning=f"upper end of the 95 % interval of `{name}`", path=f"{ends}high"),
    }


def _headline(name: str, meaning: str) -> dict[str, Column]:
    path = f"summary/final/headline/{name}/"
    return _with_interval(name, _share(meaning, f"{path}mean", tolerance=_TOLERANCE), f"records behind `{name}`", path)


def _peaks(memory: str, meaning: str) -> dict[str, Column]:
    stages = {"": f"{meaning} during the run, bytes", "_edit": "the same while editing"}
    stages["_evaluation"] = "the same while evaluating"
    names = {f"peak_{memory}{stage}_bytes": about for stage, about in stages.items()}
    return {name: _cost(about, f"costs/{name}", seeds="max") for name, about in names.items()}


_TOLERANCE = 0.02
_RECORDS = "summary/final/records/"
_END: dict[str, Any] = {"tolerance": None, "seeds": "interval"}

HEAD_COLUMNS = {
    "run": _text("the run's id: the name of its folder"),
    "status": _text("running, done, failed, interrupted, or damaged (its files cannot be trusted; see `reason`)"),
    "method": _text("editing method", "provenance/method/name"),
    "hparams": _text('origin of the hyperparameters: "tuned: 30 trials", "published", "by hand", "defaults"'),
    "model": _text("edited model", "provenance/model/name"),
    "dataset": _text("dataset", "provenance/dataset/name"),
    "protocol": _text("protocol: which metrics, on which probes", "provenance/protocol/name"),
    "mode": _text("sequential edits, or single ones, each alone in the model", "provenance/stream/mode"),
    "edits": _whole("edits in the stream", "provenance/stream/edits"),
    "batch_size": _whole("edits in a batch", "provenance/stream/batch_size"),
    "seed": _whole("the run's seed", "provenance/seed"),
    "seeds": _whole("seeds that the row is a mean over: 1, unless runs were grouped"),
    **_with_interval(
        "score",
        _share("harmonic mean of reliability, generality and locality", "summary/final/score", tolerance=_TOLERANCE),
        "smallest count of records behind the three",
        "summary/final/score_",
    ),
    **_headline("reliability", "the edit's own prompt gives the new target, after the last edit"),
    **_headline("generality", "rephrased prompts give the new target, after the last edit"),
    **_headline("locality", "neighbouring or unrelated prompts are as before, after the last edit"),
    "score_arithmetic": _share("arithmetic mean of the three", "summary/final/score_arithmetic"),
    "scored": _whole("records scored after the last edit", f"{_RECORDS}scored", seeds="min"),
    "unsupported": _whole("records unsupported by the method: in no average", f"{_RECORDS}unsupported", seeds="max"),
    "failed": _whole("records whose edit or scoring failed: in no average", f"{_RECORDS}failed", seeds="max"),
    "skipped": _whole("records left out for a reason in the data: in no average", f"{_RECORDS}skipped", seeds="max"),
    "coverage": _share("scored / (scored + unsupported + failed)", digits=2),
    "score_penalised": _share(
        "harmonic mean of reliability × coverage, generality × coverage, and locality", title="penalised score"
    ),
    "collapsed_at": Column(
        "edits in the model when a condition of `stream.stop_when` was met, which ended the run",
        "summary/collapsed/edits",
        digits=0,
        higher_is_better=True,
    ),
    "collapsed_at_low": Column(
        "first edit behind the last point without a collapse: it came from here to `collapsed_at_high`",
        "summary/collapsed/low",
        digits=0,
        **_END,
    ),
    "collapsed_at_high": Column(
        "the same as `collapsed_at` of one run; of several seeds, with `collapsed_at_low`, the interval of their mean",
        "summary/collapsed/edits",
        digits=0,
        **_END,
    ),
    "collapsed_by": _text("the condition that was met", "summary/collapsed/condition"),
    "nonfinite_batch": _whole(
        "batch after which the edited model first gave NaN or infinity for a record",
        "summary/nonfinite/batch",
        seeds="min",
    ),
}  # the columns of metrics follow in the CSV

TAIL_COLUMNS = {
    "perplexity_before": _perplexity("perplexity of the plain texts before the first edit", tolerance=_TOLERANCE),
    "perplexity_after": _perplexity(
        "the same after the last edit", "summary/final/model/perplexity.plain/perplexity/mean", tolerance=_TOLERANCE
    ),
    "perplexity_ratio": _perplexity("after / before"),
    "prepare_seconds": _cost("wall seconds of computing covariance and templates", "costs/prepare_seconds", digits=2),
    "edit_seconds": _cost("wall seconds of editing, precomputed values included", "costs/edit_seconds", digits=2),
    "evaluation_seconds": _cost(
        "wall seconds of evaluating, also before editing", "costs/evaluation_seconds", digits=2
    ),
    "cached": _text("kinds of values read from a cache; the seconds hold what computing them took"),
    "covariance_tokens": _whole("tokens of text behind the covariance", "costs/covariance_tokens"),
    "edits_made": Column("edits made: neither unsupported nor failed", "costs/edits_made", digits=0),
    "seconds_per_edit": _cost("`edit_seconds` / `edits_made`", title="s/edit", digits=2),
    "question_seconds": _cost(
        "wall seconds of a question asked alone after the last edit: median over 20 of the fastest of five turns",
        "costs/question_seconds",
        title="s/question",
        digits=4,
    ),
    "question_seconds_bare": _cost(
        "the same in the same weights, without what the method adds to a pass or a prompt",
        "costs/question_seconds_bare",
        digits=4,
    ),
    "latency_ratio": _cost("the two divided: 1 where all edits are in the weights", title="latency ratio", digits=2),
    **_peaks("rss", "peak memory of the process"),
    **_peaks("cuda", "peak memory on all GPUs together"),
    "footprint_device_bytes": _cost("bytes that the method keeps on the device", "costs/footprint/device"),
    "footprint_host_bytes": _cost("bytes that the method keeps in main memory", "costs/footprint/host"),
    "footprint_disk_bytes": _cost("bytes that the method keeps on disk", "costs/footprint/disk"),
    "bytes_per_edit": _cost("the three together / `edits_made`", title="bytes/edit"),
    "method_config": _text("the method's settings, as JSON", "provenance/method/config", is_json=True),
    "tuned_on": _whole("edits of the stream on which the hparams were tuned", "provenance/method/tuning/overlap"),
    "split": _text("part of the dataset: stream, tune, train, all", "provenance/dataset/split/name"),
    "missing": _text("figures that some seeds of a grouped row lack, with the number of seeds, as JSON", is_json=True),
    "schema": _whole("version of these columns and their formulas; runs of another schema are never compared"),
    "identity": _text("digest of the parts that runs must share to be averaged", "provenance/identity"),
    "comparable_group": _text("digest of the parts that rows must share to be compared", "provenance/comparable"),
    "parts": _text("everything that decides the numbers, except the seed, as JSON", "provenance/parts", is_json=True),
    "python": _text("Python version", "provenance/python"),
    **{name: _text(f"{name} version", f"provenance/{name}") for name in ("torch", "transformers", "editbench")},
    "platform": _text("operating system", "provenance/platform"),
    "cpu": _text("processor", "provenance/cpu"),
    "gpu": _text("graphics processor", "provenance/gpu"),
    "commit": _text("editbench's git commit", "provenance/commit"),
    "model_hash": _text("hash of the model's weights", "provenance/model/hash"),
    "model_source": _text("where a fetched model's weights are from", "provenance/model/source"),
    "model_precision": _text("how they were stored: quantised weights are expanded", "provenance/model/precision"),
    "data_hash": _text("hash of the dataset", "provenance/dataset/hash"),
    "data_file_hash": _text("SHA-256 of the data file, as `editbench fetch` shows it", "provenance/dataset/sha256"),
    "stream_hash": _text("hash of the stream: records, order, batches", "provenance/stream/hash"),
    "final_rows": _text("hash of the answers after the last edit: copies agree in it", "summary/final_rows"),
    "content_hash": _text("hash of the run's own files; the same run in two places is listed once"),
    "metrics": _text("facts of the row's metrics, as JSON: title, range, direction, digits, …", is_json=True),
    "started": _text("start, UTC", "started"),
    "ended": _text("end, UTC", "ended"),
    "reason": _text("why the run failed, was interrupted or counts as damaged", "reason"),
}

COLUMNS = {
    name: replace(one, title=one.title or name.replace("_", " "))
    for name, one in {**HEAD_COLUMNS, **TAIL_COLUMNS}.items()
}

KINDS = {  # titles of probe kinds, in the order of charts
    "rewrite": "edits",
    "paraphrase": "paraphrases",
    "locality": "locality",
    "subject_fact": "other facts",
    "alias": "aliases",  # what follows from an edit, as the next three
    "reasoning": "reasoning",
    "multi_hop": "multi-hop",
    "portability": "portability",
    "chain": "chain to the old answer",
    "unrelated": "unrelated",
    "free_text": "free text",
    "earlier_edit": "earlier edit returns",  # of revisions, as the next one
    "original": "original answer returns",
}
RETURNS = ("earlier_edit", "original", "chain")  # kinds whose answer should not come, so that less is better

COUNTS = ("texts", "tokens", "questions", "left_out")  # scores of the model that no edit changes

_OF_TEXTS = {f"perplexity_{mean}": _perplexity(title=f"PPL, {mean}") for mean in ("mean", "median", "clipped")}
_OF_TEXTS["perplexity"] = _perplexity(title="PPL")

_OF_FACTS = ("digits", "higher_is_better", "seeds", "tolerance", "range")  # fields that a metric's facts declare
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
    if declared.get("range") is not None:
        declared["range"] = tuple(declared["range"])
    if kind in RETURNS and declared.get("higher_is_better"):
        declared["higher_is_better"] = False
    return Column(title=title, **declared)


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
