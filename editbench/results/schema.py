"""What is stored and what is tabulated: the rows of a run's files and the columns of the leaderboard.

These types say what the other files read and write; the evaluation and the session fill them in. A run folder holds

    config.yaml     the resolved config, as text
    run.json        `RunInfo`
    scores.jsonl    one `ScoreRow`, `TextRow` or `AbilityRow` a line
    edits.jsonl     one `EditRow` a line
    ledger/         the edits themselves; another room's business
    run.lock        locked while a process writes the run
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

FORMAT = 1
"""Version of the run folder's layout, stored in run.json."""

SCHEMA = 2
"""Version of the leaderboard's columns and of what they mean; runs of different schemas are not compared.

1: runs that do not say what decided their numbers (`editbench.results.identity`). 2: they do.
"""

CONFIG_FILE, RUN_FILE, SCORES_FILE, EDITS_FILE = "config.yaml", "run.json", "scores.jsonl", "edits.jsonl"
LOCK_FILE, LEDGER_FOLDER = "run.lock", "ledger"

RUN_STATUSES = ("running", "done", "failed", "interrupted")
RECORD_STATUSES = ("scored", "unsupported", "failed", "skipped")
MOMENTS = ("baseline", "immediate", "checkpoint", "final")
"""Before the first edit; right after a record's own batch; at chosen edit counts; after the last edit."""
HEADLINES = ("reliability", "generality", "locality")
"""The three measures that the score is made of; a protocol says which scorer stands for each."""

Range = tuple[float, float]
"""Between which values all numbers of a measure lie."""
SHARE: Range = (0.0, 1.0)
DIFFERENCE: Range = (-1.0, 1.0)
"""Of two shares."""


class ResultsError(ValueError):
    """Results that cannot be written or read; the message names the path and says what to do."""


# --- rows of scores.jsonl and edits.jsonl ------------------------------------------------------------------------


class _ScoreRow(TypedDict):
    moment: str
    edits: int
    batch: int
    record: str
    position: int
    status: str
    scores: dict[str, float | None]


class ScoreRow(_ScoreRow, total=False):
    """One record, scored at one moment.

    Attributes:
        moment: One of `MOMENTS`.
        edits: Edits the model held when it was scored.
        batch: Index of the last batch edited by then; -1 before the first.
        record: The record's id.
        position: The edit's position in the stream.
        status: One of `RECORD_STATUSES`; only "scored" rows enter an average.
        reason: Why the record was not scored.
        scores: "<probe kind>.<scorer>" to its average within the record; null where it was not finite.
        left_out: Probe kind and reason ("locality: is itself edited") to the number of its probes that were not asked.
        probes: Details per probe, for those who want to look closer.
        nonfinite: Names of the values that were NaN or infinite and are null here.
    """

    reason: str | None
    left_out: dict[str, int]
    probes: list[dict[str, Any]]
    nonfinite: list[str]


class _TextRow(TypedDict):
    moment: str
    edits: int
    batch: int
    texts: str
    scores: dict[str, float | None]


class TextRow(_TextRow, total=False):
    """One set of texts ("plain", "accurate", "edited"), scored as a whole at one moment.

    Its scores are those of :func:`editbench.evaluation.perplexity.summarise`: perplexities, counts, and "routed" where
    edits lie beside the weights.
    """

    nonfinite: list[str]


class _AbilityRow(TypedDict):
    moment: str
    edits: int
    batch: int
    ability: str
    scores: dict[str, float | None]
    stderr: dict[str, float | None]
    n: int


class AbilityRow(_AbilityRow, total=False):
    """One test of general ability ("pocket", or a task of lm-eval), taken as a whole at one moment.

    Attributes:
        ability: The test's name.
        scores: By metric.
        stderr: Standard errors by metric, where there are any.
        n: Items (facts, documents) behind the scores.
        ranges: Between which values a metric lies, where that is known.
        nonfinite: Names of the values that were NaN or infinite and are null here.
    """

    ranges: dict[str, Range]
    nonfinite: list[str]


class _EditRow(TypedDict):
    batch: int
    ids: list[str]
    seconds: float


class EditRow(_EditRow, total=False):
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

    skipped: dict[str, str]
    failed: dict[str, str]
    losses: Any
    nonfinite: list[str]


# --- run.json ----------------------------------------------------------------------------------------------------


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
    method: dict[str, Any]  # name, constants, settings
    protocol: dict[str, Any]  # name, headline, and the protocol's settings
    ability: dict[str, Any]  # lm_eval: its version; tasks: their versions
    seed: int


class Costs(TypedDict, total=False):
    """What the run took; every key may be missing."""

    prepare_seconds: float
    edit_seconds: float
    evaluation_seconds: float
    cached: list[str]  # kinds of things that were read from a cache; their seconds are those of when they were made
    edits_made: int
    peak_rss_bytes: int  # of the run; peak_rss_edit_bytes and so on: of a stage
    peak_cuda_bytes: int
    footprint: dict[str, int]  # device, host, disk: bytes


class Measure(TypedDict):
    """A mean over records, or over the items of a test of ability.

    Without any, or where it is not finite, mean, low and high are None: never 0. The ends alone are None where the
    numbers say nothing about them: all alike, of a measure that has no range.
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


class MomentSummary(Score):
    """Everything averaged at one moment; `edits` is the largest edit count among its rows."""

    moment: str
    edits: int
    records: dict[str, int]
    left_out: dict[str, int]
    measures: dict[str, Measure]
    headline: dict[str, Measure]
    texts: dict[str, dict[str, float | None]]
    ability: dict[str, dict[str, Measure]]


class Summary(TypedDict):
    """All moments of a run; a moment without rows is None.

    `ranges` says between which values the numbers of measures lie, by measure ("ability.sst2.acc") or scorer.
    """

    headline: dict[str, str]
    seed: int
    resamples: int
    ranges: dict[str, Range]
    baseline: MomentSummary | None
    immediate: MomentSummary | None
    final: MomentSummary | None
    checkpoints: list[MomentSummary]


class RunInfo(TypedDict):
    """The content of run.json.

    Attributes:
        format: `FORMAT`.
        run: The run's id.
        status: One of `RUN_STATUSES`.
        reason: Why it failed or was interrupted.
        started: UTC, ISO 8601.
        ended: UTC, ISO 8601; None while running.
        provenance: A `Provenance`.
        costs: `Costs`, or None.
        summary: A `Summary`, or None.
        files: Once the run has ended: file name to SHA-256, so that later damage is noticed.
    """

    format: int
    run: str
    status: str
    reason: str | None
    started: str
    ended: str | None
    provenance: dict[str, Any]
    costs: dict[str, Any] | None
    summary: dict[str, Any] | None
    files: dict[str, str]


# --- columns of the leaderboard ----------------------------------------------------------------------------------

Cell = str | int | float | None
Row = dict[str, Cell]
"""One run in the leaderboard: the columns below, and one column for each further measure."""


class Column(NamedTuple):
    """A leaderboard column: its meaning, and where in run.json its value stands (empty: it is computed)."""

    meaning: str
    path: tuple[str, ...] = ()


def _headline_columns(name: str, meaning: str) -> dict[str, Column]:
    path = ("summary", "final", "headline", name)
    return {
        name: Column(meaning, (*path, "mean")),
        f"{name}_n": Column(f"records behind `{name}`", (*path, "n")),
        f"{name}_low": Column(f"lower end of the 95 % interval of `{name}`", (*path, "low")),
        f"{name}_high": Column(f"upper end of the 95 % interval of `{name}`", (*path, "high")),
    }


_FINAL = ("summary", "final")

TEXT_COLUMNS = frozenset(
    (
        *("run", "status", "method", "constants", "model", "dataset", "protocol", "settings"),
        *("python", "torch", "transformers", "editbench", "platform", "cpu", "gpu", "commit", "cached"),
        *("model_hash", "data_hash", "stream_hash", "content_hash", "shares", "started", "ended", "reason"),
        *("identity", "comparable_group", "parts", "missing"),
    )
)
"""Columns whose values are never numbers, whatever they look like: version 3.10, hash 12e45."""

HEAD_COLUMNS: dict[str, Column] = {
    "run": Column("the run's id: the name of its folder"),
    "status": Column("running, done, failed, interrupted, or damaged (its files cannot be trusted; see `reason`)"),
    "method": Column("editing method", ("provenance", "method", "name")),
    "constants": Column(
        "the set of constants that the method's settings start from: tuned to the model, published, or a variant",
        ("provenance", "method", "constants"),
    ),
    "model": Column("edited model", ("provenance", "model", "name")),
    "dataset": Column("dataset", ("provenance", "dataset", "name")),
    "protocol": Column("protocol: which scorers, on which probes", ("provenance", "protocol", "name")),
    "edits": Column("edits in the stream", ("provenance", "stream", "edits")),
    "batch_size": Column("edits in a batch", ("provenance", "stream", "batch_size")),
    "seed": Column("the run's seed", ("provenance", "seed")),
    "seeds": Column("seeds that the row is a mean over: 1, unless runs were grouped"),
    "score": Column("harmonic mean of reliability, generality and locality", (*_FINAL, "score")),
    "score_n": Column("smallest count of records behind the three", (*_FINAL, "score_n")),
    "score_low": Column("lower end of the 95 % interval of `score`", (*_FINAL, "score_low")),
    "score_high": Column("upper end of the 95 % interval of `score`", (*_FINAL, "score_high")),
    **_headline_columns("reliability", "the edit's own prompt gives the new target, after the last edit"),
    **_headline_columns("generality", "rephrased prompts give the new target, after the last edit"),
    **_headline_columns("locality", "neighbouring or unrelated prompts are as before, after the last edit"),
    "score_arithmetic": Column("arithmetic mean of the three", (*_FINAL, "score_arithmetic")),
    "scored": Column("records scored after the last edit", (*_FINAL, "records", "scored")),
    "unsupported": Column("records the method does not support: in no average", (*_FINAL, "records", "unsupported")),
    "failed": Column("records whose edit or scoring failed: in no average", (*_FINAL, "records", "failed")),
    "skipped": Column(
        "records left out for a reason in the data, whatever the method: in no average",
        (*_FINAL, "records", "skipped"),
    ),
    "coverage": Column(
        "share of the records that could be scored which were: scored / (scored + unsupported + failed)"
    ),
    "score_penalised": Column(
        "harmonic mean of reliability × coverage, generality × coverage, and locality: what was not edited counts 0"
    ),
}

TAIL_COLUMNS: dict[str, Column] = {
    "perplexity_before": Column("perplexity of the plain texts before the first edit"),
    "perplexity_after": Column("the same after the last edit", (*_FINAL, "texts", "plain", "perplexity")),
    "perplexity_ratio": Column("after / before"),
    "prepare_seconds": Column(
        "wall seconds of what is computed once for a stream (second moments and their factors, templates)",
        ("costs", "prepare_seconds"),
    ),
    "edit_seconds": Column("wall seconds of editing, values found ahead included", ("costs", "edit_seconds")),
    "evaluation_seconds": Column(
        "wall seconds of evaluating, the unedited model included", ("costs", "evaluation_seconds")
    ),
    "cached": Column("what was read from a cache; the seconds hold what it took when it was computed"),
    "edits_made": Column("edits that the method made: neither unsupported nor failed", ("costs", "edits_made")),
    "seconds_per_edit": Column("`edit_seconds` / `edits_made`"),
    "peak_rss_bytes": Column("peak memory of the process during the run, bytes", ("costs", "peak_rss_bytes")),
    "peak_rss_edit_bytes": Column("the same while editing", ("costs", "peak_rss_edit_bytes")),
    "peak_rss_evaluation_bytes": Column("the same while evaluating", ("costs", "peak_rss_evaluation_bytes")),
    "peak_cuda_bytes": Column("peak memory on all GPUs together during the run, bytes", ("costs", "peak_cuda_bytes")),
    "peak_cuda_edit_bytes": Column("the same while editing", ("costs", "peak_cuda_edit_bytes")),
    "peak_cuda_evaluation_bytes": Column("the same while evaluating", ("costs", "peak_cuda_evaluation_bytes")),
    "footprint_device_bytes": Column("what the method keeps on the device, bytes", ("costs", "footprint", "device")),
    "footprint_host_bytes": Column("what the method keeps in main memory, bytes", ("costs", "footprint", "host")),
    "footprint_disk_bytes": Column("what the method keeps on disk, bytes", ("costs", "footprint", "disk")),
    "bytes_per_edit": Column("the three together / `edits_made`"),
    "settings": Column("the method's settings, as JSON"),
    "missing": Column(
        "figures that some seeds of a grouped row lack, as JSON: in how many; the mean is over the others"
    ),
    "schema": Column("version of these columns and their formulas; runs of another schema are never compared"),
    "identity": Column(
        "digest of all that decides the numbers but for the seed: runs that agree in it are averaged",
        ("provenance", "identity"),
    ),
    "comparable_group": Column(
        "digest of what rows must share to be compared, whatever the method", ("provenance", "comparable")
    ),
    "parts": Column("what the two are digests of, as JSON"),
    "python": Column("Python version", ("provenance", "python")),
    "torch": Column("torch version", ("provenance", "torch")),
    "transformers": Column("transformers version", ("provenance", "transformers")),
    "editbench": Column("editbench version", ("provenance", "editbench")),
    "platform": Column("operating system", ("provenance", "platform")),
    "cpu": Column("processor", ("provenance", "cpu")),
    "gpu": Column("graphics processor", ("provenance", "gpu")),
    "commit": Column("editbench's git commit", ("provenance", "commit")),
    "model_hash": Column("hash of the model's weights", ("provenance", "model", "hash")),
    "data_hash": Column("hash of the dataset", ("provenance", "dataset", "hash")),
    "stream_hash": Column("hash of the stream: records, order, batches", ("provenance", "stream", "hash")),
    "content_hash": Column("hash of the run's own files; the same run in two places is listed once"),
    "shares": Column("scorers and tests whose numbers lie in [0, 1]; so do the intervals of their columns"),
    "started": Column("start, UTC", ("started",)),
    "ended": Column("end, UTC", ("ended",)),
    "reason": Column("why the run failed, was interrupted or counts as damaged", ("reason",)),
}
