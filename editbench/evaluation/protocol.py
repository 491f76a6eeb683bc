"""From a configuration to a finished run: makes the parts, checks early, hands over to the session."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from editbench.checks import unknown
from editbench.records import LOCALITY, PARAPHRASE, REWRITE, SUBJECT_FACT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editbench.stream import Stream

    pass


_log = logging.getLogger(__name__)

STAGES = ("immediate", "final")

HEADLINE = ("reliability", "generality", "locality")

OF_A_RECORD = (REWRITE, PARAPHRASE, LOCALITY, SUBJECT_FACT)

FREE_TEXT = "free_text"


def _check_protocol(protocol: Any, dataset: str) -> None:
    from editbench.evaluation.metrics import get_metric

    for name in protocol.metrics:
        get_metric(name)
    if protocol.retention_sample is not None and protocol.retention_sample < 1:
        raise ValueError(f"protocol.retention_sample is {protocol.retention_sample}; it must be at least 1, or null")
    first = final_first_of(protocol, dataset)
    if first is not None and first < 1:
        raise ValueError(f"protocol.final_first is {first} for {dataset}; it must be at least 1, or null for all")
    for stage in protocol.stages:
        if stage not in STAGES:
            raise unknown("stage", stage, STAGES)
    check_headline(headline_of(protocol, dataset), protocol.metrics)


def check_headline(headline: Mapping[str, str], metrics: Sequence[str]) -> None:
    """Refuse headline measures that no score can be made of.

    Args:
        headline: "<probe kind>.<metric>" by its name.
        metrics: What the run scores.

    Raises:
        ValueError: An unknown name, kind or metric, one that the run does not score, or one that is not a share.
    """
    from editbench.evaluation.metrics import get_metric

    for name, measure in headline.items():
        if name not in HEADLINE:
            raise unknown("headline measure", name, HEADLINE)
        kind, _, metric = measure.partition(".")
        if kind not in (*OF_A_RECORD, FREE_TEXT):
            raise unknown(
                f"kind of question in the headline measure {name}={measure!r}", kind, (*OF_A_RECORD, FREE_TEXT)
            )
        found = get_metric(metric)
        if not found.share:
            raise ValueError(
                f"the headline measure {name}={measure!r} is no share: {metric} may lie outside 0 and 1, and the score "
                "is a mean of shares; choose another metric for protocol.headline"
            )
        if (found.needs == "free_text") != (kind == FREE_TEXT):
            raise ValueError(f"the headline measure {name}={measure!r} does not exist: {metric} scores no {kind}")
        if metric not in metrics:
            raise ValueError(
                f"the headline measure {name}={measure!r} is not scored: add {metric} to protocol.metrics, which has "
                f"{', '.join(metrics)}"
            )


def _check_kinds(headline: Mapping[str, str], stream: Stream) -> None:
    """Say which headline measures will have no number, since no record of the stream has such a question.

    Raises:
        ValueError: It is of a kind that the datasets have by exception only.
    """
    kinds = {REWRITE, *(probe.kind for record in stream.records for probe in record.probes)}
    kinds |= {FREE_TEXT} if any(record.free_text is not None for record in stream.records) else set()
    for name, measure in headline.items():
        kind = measure.partition(".")[0]
        if kind in kinds:
            continue
        if kind not in (PARAPHRASE, LOCALITY):
            raise ValueError(
                f"the headline measure {name}={measure!r} has no number: no record has a question of the kind {kind}"
            )
        _log.warning("no record has a %s question: there will be no %s, and no score", kind, name)


def headline_of(protocol: Any, dataset: str) -> dict[str, str]:
    """Which measures stand for reliability, generality and locality on this dataset."""
    chosen = protocol.headline.get(dataset) or protocol.headline.get("default") or {}
    return {str(name): str(measure) for name, measure in chosen.items()}


def final_first_of(protocol: Any, dataset: str) -> int | None:
    """How many of the first edits are scored at the end on this dataset; None for all."""
    known = protocol.final_first
    count: int | None = known[dataset] if dataset in known else known.get("default")
    return count
