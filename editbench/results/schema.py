"""Names and types of a run folder's content; `docs/run-format.md` describes all files, rows and keys."""

from __future__ import annotations

from typing import Any, TypedDict

from typing_extensions import NotRequired

FORMAT = 2  # of the run folder's layout, stored in run.json
LAST_READER = {1: "editbench 0.1, or 0.2.0.dev0 before format 2"}
"""Versions that read earlier layouts."""

SCHEMA = 2
"""Version of the leaderboard's columns and of what they mean; runs of different schemas are not compared.

1: runs without a record of what decided their numbers (`editbench.results.identity`). 2: with it.
"""

CONFIG_FILE, RUN_FILE, SCORES_FILE, EDITS_FILE = "config.yaml", "run.json", "scores.jsonl", "edits.jsonl"
CHAIN_FILE, MANIFEST_FILE, LOCK_FILE, LEDGER_FOLDER = "chain.jsonl", "manifest.json", "run.lock", "ledger"
TRACKER_FOLDERS = ("tensorboard", "wandb")  # of trackers, in the run's folder; no seal has them
HIDDEN_SHIFT_FILE = "hidden_shift.safetensors"  # of runs with protocol.hidden_shift
INDEX_FILE, STATE_FILE = f"{LEDGER_FOLDER}/index.jsonl", f"{LEDGER_FOLDER}/state.safetensors"

MAX_INFO = 256 << 20  # bytes of run.json and of the manifest: nothing of a sound run comes near
RUN_STATUSES = ("running", "done", "failed", "interrupted")
RECORD_STATUSES = ("scored", "unsupported", "failed", "skipped")

STAGES = ("before", "immediate", "interim", "final")
"""Before the first edit; right after a record's own batch; at chosen edit counts; after the last edit."""

HEADLINES = ("reliability", "generality", "locality")
"""The three measures of which the score is made; a protocol names the metric of each."""

Range = tuple[float, float]
"""Smallest and largest possible value of a measure."""
SHARE: Range = (0.0, 1.0)
DIFFERENCE: Range = (-1.0, 1.0)  # of two shares

Cell = str | int | float | None
Row = dict[str, Cell]
"""One run in the leaderboard: the columns of `columns.py`, and one column for each further measure."""


class RecordRow(TypedDict):
    """One record, scored at one stage."""

    stage: str  # one of `STAGES`
    edits: int  # in the model
    batch: int  # last batch edited by then; -1 before the first
    record: str  # the record's id
    position: int  # in the stream
    status: str  # one of `RECORD_STATUSES`; only "scored" rows enter an average
    scores: dict[str, float | None]  # "<probe kind>.<metric>" to its average in the record; null where it is not finite
    reason: NotRequired[str | None]  # why the record was not scored
    against: NotRequired[str]  # id of the later edit that revised this one, and whose answers are the right ones now
    left_out: NotRequired[dict[str, int]]  # "locality: is itself edited" to the number of probes that were not asked
    probes: NotRequired[list[dict[str, Any]]]
    nonfinite: NotRequired[list[str]]  # names of the values that were NaN or infinite and are null here


class ModelRow(TypedDict):
    """The model as a whole at one stage: texts' perplexity, unrelated questions, drift, footprint, general ability."""

    stage: str
    edits: int
    batch: int
    of: str  # "perplexity.<texts>", "unrelated", "drift", "footprint" or "ability.<test>"
    scores: dict[str, float | None]
    stderr: NotRequired[dict[str, float | None]]
    n: NotRequired[int]  # items (facts, documents) behind the scores of a test of general ability
    ranges: NotRequired[dict[str, Range]]
    nonfinite: NotRequired[list[str]]


class EditRow(TypedDict):
    """One batch of edits."""

    batch: int
    ids: list[str]
    seconds: float  # wall time of the editing alone
    skipped: NotRequired[dict[str, str]]  # id to the reason why the method does not support this record
    failed: NotRequired[dict[str, str]]  # id to the reason why the edit failed
    losses: NotRequired[Any]  # as the method reports them
    nonfinite: NotRequired[list[str]]


class MetricFacts(TypedDict):
    """Facts that a reader of a metric's numbers must know; `run.json` holds them by metric name."""

    title: str  # in tables and charts
    version: int  # another number for another formula
    range: Range | None
    higher_is_better: bool | None  # None where neither direction is good
    digits: int  # behind the point
    seeds: str  # aggregation over seeds: "mean", "sum", "max" or "list"
    tolerance: float | None  # largest absolute difference from a reference that counts as the same; None: not compared
    source: str  # paper, equation, or the code that the formula follows


class Estimate(TypedDict):
    """A mean over records, or over the items of a test of ability."""

    mean: float | None  # None, never 0, without any finite number
    low: float | None  # None also where the numbers do not determine it: all alike, of a measure that has no range
    high: float | None
    n: int
    nonfinite: int


class Score(TypedDict):
    """The score with its interval."""

    score: float | None
    score_n: int  # the smallest count of records behind the three headline measures
    score_low: float | None
    score_high: float | None
    score_arithmetic: float | None


class StageSummary(Score):
    """Averages of one stage."""

    stage: str
    edits: int  # the largest count among its rows
    records: dict[str, int]
    left_out: dict[str, int]
    measures: dict[str, Estimate]
    headline: dict[str, Estimate]
    model: dict[str, dict[str, Estimate]]


class Summary(TypedDict):
    """All stages of a run; a stage without rows is None."""

    headline: dict[str, str]
    seed: int
    resamples: int
    ranges: dict[str, Range]  # by measure ("ability.sst2.acc") or metric
    before: StageSummary | None
    immediate: StageSummary | None
    final: StageSummary | None
    interim: list[StageSummary]
    nonfinite: dict[str, int] | None  # `batch`, `edits`: where a record first got NaN or infinity from the edited model
    collapsed: NotRequired[dict[str, Any] | None]  # `edits`, `low`, `condition` of a run that stream.stop_when ended


class RunInfo(TypedDict):
    """The content of run.json."""

    format: int  # `FORMAT`
    run: str
    status: str  # one of `RUN_STATUSES`
    reason: str | None  # why it failed or was interrupted
    started: str  # UTC, ISO 8601
    ended: str | None  # None while running
    provenance: dict[str, Any]
    costs: dict[str, Any] | None
    summary: dict[str, Any] | None  # a `Summary`
    metrics: dict[str, MetricFacts]  # by metric name
    digest: NotRequired[str]  # of all the rest
