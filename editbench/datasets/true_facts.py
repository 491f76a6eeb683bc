"""Facts of a dataset that no stream edits, with their true answers: for tests of what an edited model still knows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from editbench.datasets import splits
from editbench.datasets.loading import from_config

if TYPE_CHECKING:
    from editbench.config import DatasetConfig

FACTS = 200
"""Facts asked at most: the first of their split."""


def true_facts(config: DatasetConfig, edited: str, count: int = FACTS) -> list[tuple[str, str]]:
    """Prompts and true answers of the split for tuning; ``edited`` is the split that the run edits.

    Raises ValueError where the run could edit them, or the records name no true answer.
    """
    if edited != splits.STREAM:
        raise ValueError(
            f"the ability test 'known' asks facts of the split {splits.TUNE!r}, and this run edits {edited!r}; set "
            f"dataset.split={splits.STREAM}, or leave the test out of protocol.ability.tasks"
        )
    records = from_config(replace(config, split=splits.TUNE, limit=None)).records
    requests = [record.request for record in records if record.request.target_true is not None]
    if not requests:
        raise ValueError(
            f"the records of {config.name} name no true answer, for which the ability test 'known' asks; leave it out "
            "of protocol.ability.tasks"
        )
    return [(request.prompt, str(request.target_true)) for request in requests[:count]]
