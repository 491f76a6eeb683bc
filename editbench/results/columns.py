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

from typing import NamedTuple


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
        *("run", "status", "method", "hparams", "model", "dataset", "protocol", "method_config"),
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
    "hparams": Column(
        "the set of constants that the method's settings start from: tuned to the model, published, or a variant",
        ("provenance", "method", "hparams"),
    ),
    "model": Column("edited model", ("provenance", "model", "name")),
    "dataset": Column("dataset", ("provenance", "dataset", "name")),
    "protocol": Column("protocol: which metrics, on which probes", ("provenance", "protocol", "name")),
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
    "perplexity_after": Column(
        "the same after the last edit", (*_FINAL, "model", "perplexity.plain", "perplexity", "mean")
    ),
    "perplexity_ratio": Column("after / before"),
    "prepare_seconds": Column(
        "wall seconds of what is computed once for a stream (covariance and their factors, templates)",
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
    "method_config": Column("the method's settings, as JSON"),
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
    "shares": Column("metrics and tests whose numbers lie in [0, 1]; so do the intervals of their columns"),
    "started": Column("start, UTC", ("started",)),
    "ended": Column("end, UTC", ("ended",)),
    "reason": Column("why the run failed, was interrupted or counts as damaged", ("reason",)),
}
