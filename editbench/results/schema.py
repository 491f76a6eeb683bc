"""Types of a run folder's rows and of run.json; `docs/run-format.md` describes all files."""

from __future__ import annotations

from typing import Any, TypedDict

from typing_extensions import NotRequired

FORMAT = 2
"""Version of the run folder's layout, stored in run.json."""

LAST_READER = {1: "editbench 0.1, or 0.2.0.dev0 before format 2"}
"""Versions that read earlier layouts."""

SCHEMA = 2
"""Version of the leaderboard's columns and of what they mean; runs of different schemas are not compared.

1: runs without a record of what decided their numbers (`editbench.results.identity`). 2: with it.
"""

CONFIG_FILE, RUN_FILE, SCORES_FILE, EDITS_FILE = "config.yaml", "run.json", "scores.jsonl", "edits.jsonl"

CHAIN_FILE, MANIFEST_FILE, LOCK_FILE, LEDGER_FOLDER = "chain.jsonl", "manifest.json", "run.lock", "ledger"

INDEX_FILE, STATE_FILE = f"{LEDGER_FOLDER}/index.jsonl", f"{LEDGER_FOLDER}/state.safetensors"

RUN_STATUSES = ("running", "done", "failed", "interrupted")

RECORD_STATUSES = ("scored", "unsupported", "failed", "skipped")

STAGES = ("before", "immediate", "interim", "final")
"""Before the first edit; right after a record's own batch; at chosen edit counts; after the last edit."""

HEADLINES = ("reliability", "generality", "locality")
"""The three measures of which the score is made; a protocol names the metric of each."""

Range = tuple[float, float]
"""Between which values all numbers of a measure lie."""

SHARE: Range = (0.0, 1.0)

DIFFERENCE: Range = (-1.0, 1.0)
"""Of two shares."""


class RecordRow(TypedDict):
    """One record, scored at one stage.

    Attributes:
        stage: One of `STAGES`.
        edits: Number of edits in the model.
        batch: Index of the last batch edited by then; -1 before the first.
        record: The record's id.
        position: The edit's position in the stream.
        status: One of `RECORD_STATUSES`; only "scored" rows enter an average.
        scores: "<probe kind>.<metric>" to its average within the record; null where it was not finite.
        reason: Why the record was not scored.
        left_out: Probe kind and reason ("locality: is itself edited") to the number of its probes that were not asked.
        probes: Details per probe, for those who want to look closer.
        nonfinite: Names of the values that were NaN or infinite and are null here.
    """

    stage: str
    edits: int
    batch: int
    record: str
    position: int
    status: str
    scores: dict[str, float | None]
    reason: NotRequired[str | None]
    left_out: NotRequired[dict[str, int]]
    probes: NotRequired[list[dict[str, Any]]]
    nonfinite: NotRequired[list[str]]


class ModelRow(TypedDict):
    """The model as a whole at one stage: perplexity of texts, unrelated questions, drift, footprint, general ability.

    Attributes:
        stage: One of `STAGES`.
        edits: Number of edits in the model.
        batch: Index of the last batch edited by then; -1 before the first.
        of: What was scored: "perplexity.<texts>", "unrelated", "drift", "footprint" or "ability.<test>".
        scores: By name; null where it was not finite.
        stderr: Standard errors by name, where there are any.
        n: Items (facts, documents) behind the scores of a test of general ability.
        ranges: Between which values a score lies, where that is known.
        nonfinite: Names of the values that were NaN or infinite and are null here.
    """

    stage: str
    edits: int
    batch: int
    of: str
    scores: dict[str, float | None]
    stderr: NotRequired[dict[str, float | None]]
    n: NotRequired[int]
    ranges: NotRequired[dict[str, Range]]
    nonfinite: NotRequired[list[str]]


class EditRow(TypedDict):
    """One batch of edits.

    Attributes:
        batch: Index of the batch in the stream, from 0.
        ids: The batch's records.
        seconds: Wall seconds of the editing alone.
        skipped: Id to the reason why the method does not support this record.
        failed: Id to the reason why the edit failed.
        losses: What the method's optimisation reports.
        nonfinite: Names of the values that were NaN or infinite and are null here.
    """

    batch: int
    ids: list[str]
    seconds: float
    skipped: NotRequired[dict[str, str]]
    failed: NotRequired[dict[str, str]]
    losses: NotRequired[Any]
    nonfinite: NotRequired[list[str]]


class MetricFacts(TypedDict):
    """Everything that a reader of a metric's numbers must know; `run.json` holds it by metric name.

    Attributes:
        title: Short name in tables and charts.
        version: Another number for another formula.
        range: Between which values all its numbers lie; None if unknown.
        higher_is_better: None where neither direction is good.
        digits: Digits behind the point.
        seeds: Aggregation over seeds: "mean", "sum", "max" or "list".
        tolerance: Largest absolute difference from a reference that counts as the same; None: not compared.
        source: Paper, equation, or the code that the formula follows.
    """

    title: str
    version: int
    range: Range | None
    higher_is_better: bool | None
    digits: int
    seeds: str
    tolerance: float | None
    source: str


class Provenance(TypedDict, total=False):
    """Where the numbers come from; every key may be missing."""

    schema: int  # `SCHEMA`; 1 where it is missing
    identity: str  # digest of the parts; see `editbench.results.identity`
    comparable: str  # digest of those that comparable runs share
    parts: dict[str, Any]  # what decides the numbers, but for the seed: name to value or digest
    versions: dict[str, int]  # of every formula behind the numbers
    inputs: dict[str, str]  # SHA-256 of every file that was named by path
    editbench: str
    commit: str
    python: str
    torch: str
    transformers: str
    platform: str
    cpu: str
    gpu: str
    model: dict[str, Any]  # name, path, hash
    dataset: dict[str, Any]  # name, path, hash, skipped: records of the file left out, with the reason
    stream: dict[str, Any]  # hash, edits, batch_size, seed, conflicts
    method: dict[str, Any]  # name, hparams, config
    protocol: dict[str, Any]  # name, headline, and the protocol's settings
    ability: dict[str, Any]  # lm_eval: its version; tasks: their versions
    seed: int


class Costs(TypedDict, total=False):
    """Time and memory of a run; every key may be missing."""

    prepare_seconds: float
    edit_seconds: float
    evaluation_seconds: float
    cached: list[str]  # kinds of things that were read from a cache; their seconds are those of when they were made
    edits_made: int
    peak_rss_bytes: int  # of the run; peak_rss_edit_bytes and so on: of a stage
    peak_cuda_bytes: int
    footprint: dict[str, int]  # device, host, disk: bytes


class Estimate(TypedDict):
    """A mean over records, or over the items of a test of ability.

    Without any, or where it is not finite, mean, low and high are None: never 0. The ends alone are None where the
    numbers do not determine them: all alike, of a measure that has no range.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    nonfinite: int


class Score(TypedDict):
    """The score with its interval, and the smallest count of records behind the three headline measures."""

    score: float | None
    score_n: int
    score_low: float | None
    score_high: float | None
    score_arithmetic: float | None


class StageSummary(Score):
    """Everything averaged at one stage; `edits` is the largest edit count among its rows."""

    stage: str
    edits: int
    records: dict[str, int]
    left_out: dict[str, int]
    measures: dict[str, Estimate]
    headline: dict[str, Estimate]
    model: dict[str, dict[str, Estimate]]


class Summary(TypedDict):
    """All stages of a run; a stage without rows is None.

    `ranges` has the lowest and highest possible value, by measure ("ability.sst2.acc") or metric.
    """

    headline: dict[str, str]
    seed: int
    resamples: int
    ranges: dict[str, Range]
    before: StageSummary | None
    immediate: StageSummary | None
    final: StageSummary | None
    interim: list[StageSummary]


class RunInfo(TypedDict):
    """The content of run.json."""

    format: int  # `FORMAT`
    run: str
    status: str  # one of `RUN_STATUSES`
    reason: str | None  # why it failed or was interrupted
    started: str  # UTC, ISO 8601
    ended: str | None  # None while running
    provenance: dict[str, Any]  # a `Provenance`
    costs: dict[str, Any] | None  # `Costs`
    summary: dict[str, Any] | None  # a `Summary`
    metrics: dict[str, MetricFacts]  # by metric name


Cell = str | int | float | None

Row = dict[str, Cell]
"""One run in the leaderboard: the columns below, and one column for each further measure."""
