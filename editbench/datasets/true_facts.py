"""Facts of a dataset that no stream edits: for what an edited model still knows, and how it sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from editbench.datasets import splits
from editbench.datasets.loading import from_config

if TYPE_CHECKING:
    from editbench.config import DatasetConfig
    from editbench.records import EditRequest, RecordSet

FACTS = 200
"""Facts asked at most: the first of their split."""


def untouched(config: DatasetConfig, edited: RecordSet, what: str, count: int = FACTS) -> list[EditRequest]:
    """Requests of the split for tuning, in the format of the records that the run edits; ``what`` needs them.

    Raises ValueError where the run could edit them.
    """
    if edited.split.name != splits.STREAM:
        raise ValueError(
            f"{what} asks facts of the split {splits.TUNE!r}, and this run edits {edited.split.name!r}; set "
            f"dataset.split={splits.STREAM}, or leave it out"
        )
    records = from_config(replace(config, split=splits.TUNE, limit=None), edited.chat_format).records
    return [record.request for record in records[:count]]


def true_facts(config: DatasetConfig, edited: RecordSet) -> list[tuple[str, str]]:
    """Prompts and true answers of :func:`untouched` requests; a ValueError where they name none."""
    what = "the ability test 'known'"
    requests = untouched(config, edited, what)
    if not (found := [(one.prompt, one.target_true) for one in requests if one.target_true is not None]):
        raise ValueError(f"the records of {config.name} name no true answer, for which {what} asks; leave it out")
    return found


def with_subjects(config: DatasetConfig, edited: RecordSet, count: int | None) -> list[EditRequest]:
    """The first ``count`` untouched requests, which must name their subjects (ValueError); none of None."""
    if count is None:
        return []
    requests = untouched(config, edited, "protocol.hidden_shift", count)
    if missing := [request.id for request in requests if request.subject is None]:
        raise ValueError(f"record {missing[0]!r} has no subject, where protocol.hidden_shift looks; leave it out")
    return requests
