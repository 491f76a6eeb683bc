"""KnowEdit (Zhang et al., 2024, arXiv:2401.01286): wiki_recent, wiki_counterfact, ZsRE with portability, WikiBio.

Each question has lists of answers, any of which is right. Portability's "Subject_Aliasing" are probes of the kind
alias, "Reasoning" of reasoning, "Logical_Generalization" of portability. Locality's "Relation_Specificity" and
"Forgetfulness" ask about the edited subject: they are subject_fact, any other group is locality. WikiBio's answers are
sentences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record
from editbench.datasets.requests import OPTIONAL, request_items, unchanged

if TYPE_CHECKING:
    from editbench.datasets.rows import Row


def _wikibio(row: Row, settings: Settings) -> Iterator[Item]:
    locality, facts = unchanged(row)
    yield edit_record(
        row,
        prompt=row.text("text"),
        subject=row.text("concept"),
        target=row.right("labels"),
        locality=locality,
        subject_facts=facts,
    )


KNOWEDIT = Dataset(
    name="knowedit",
    settings=Settings,
    layouts=(
        Layout("KnowEdit", ("subject", "prompt", "target_new"), request_items, optional=OPTIONAL, unused=("cond",)),
        Layout("KnowEdit, WikiBio", ("concept", "text", "labels"), _wikibio, optional=("locality",)),
    ),
)
