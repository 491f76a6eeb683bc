"""Checks of a protocol's metrics and headline, against the metrics that exist and the questions of a stream."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from editbench.checks import unknown
from editbench.records import LOCALITY, PARAPHRASE, REWRITE, SUBJECT_FACT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editbench.stream import Stream

_log = logging.getLogger(__name__)

OF_A_RECORD = (REWRITE, PARAPHRASE, LOCALITY, SUBJECT_FACT)
FREE_TEXT = "free_text"


def check_headline(headline: Mapping[str, str], metrics: Sequence[str]) -> None:
    """Refuse unknown metrics, and headline measures ("<probe kind>.<metric>") that no score can be made of.

    ``metrics`` are those that the run scores.
    """
    from editbench.evaluation.metrics import get_metric

    for name in metrics:
        get_metric(name)
    for name, measure in headline.items():
        kind, _, metric = measure.partition(".")
        if kind not in (*OF_A_RECORD, FREE_TEXT):
            known = (*OF_A_RECORD, FREE_TEXT)
            raise unknown(f"kind of question in the headline measure {name}={measure!r}", kind, known)
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


def check_questions(headline: Mapping[str, str], stream: Stream) -> None:
    """Refuse a headline measure without a question in the stream; warn if most datasets have such questions."""
    kinds = {REWRITE, *(probe.kind for record in stream.records for probe in record.probes)}
    kinds |= {FREE_TEXT for record in stream.records if record.free_text is not None}
    for name, measure in headline.items():
        kind = measure.partition(".")[0]
        if kind in kinds:
            continue
        if kind not in (PARAPHRASE, LOCALITY):
            raise ValueError(
                f"the headline measure {name}={measure!r} has no number: no record has a question of the kind {kind}"
            )
        _log.warning("no record has a %s question: there will be no %s, and no score", kind, name)
