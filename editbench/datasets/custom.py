"""Custom records: a user's own data, in JSON, JSON Lines, CSV or Parquet, or edit requests as other tools write them.

Fields: ``prompt`` (with the subject, or "{}", in it) and ``target``; optional ``subject``, ``target_true``, ``id``,
``paraphrases`` (texts), ``locality`` or ``neighbours``, ``subject_facts``, ``alias``, ``reasoning``, ``multi_hop`` and
``portability`` (objects ``{prompt, target}``), ``generation_prompts`` (prompts for free text) and ``snippets`` (texts
that it should resemble). A target may be a list: the first is edited, the others are right too. Other fields are
ignored, and the run says so; one that resembles a known field is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record
from editbench.datasets.requests import OPTIONAL, asked, kind_of, request_items
from editbench.records import FOLLOWS, PORTABILITY

if TYPE_CHECKING:
    from editbench.datasets.rows import Row


_OPTIONAL = (
    *("subject", "target_true", "id", "paraphrases", "locality", "neighbours", "subject_facts", *FOLLOWS),
    *("subject_fact_prompts", "generation_prompts", "snippets"),
)
_FIELDS = ("prompt", "target", *_OPTIONAL)


def refuse_misspelt(row: Row) -> None:
    """A RowError if a field's name is nearly that of another: the row would be read without it."""
    for name in row.fields:
        near = [] if name in _FIELDS else difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.8)
        if near:
            raise row.error(name, f"is no field of these records; did you mean {near[0]!r}?")


def _custom(row: Row, settings: Settings) -> Iterator[Item]:
    refuse_misspelt(row)
    follows = [(kind, *one) for kind in FOLLOWS for one in asked(row, kind)]
    yield edit_record(
        row,
        prompt=row.text("prompt"),
        subject=row.text("subject") if row.filled("subject") else None,
        target=row.right("target"),
        target_true=row.several("target_true"),
        paraphrases=row.several("paraphrases"),
        locality=[(text, right) for name in ("locality", "neighbours") for _, text, right in asked(row, name)],
        subject_facts=[(text, right) for _, text, right in asked(row, "subject_facts")],
        follows=[
            (kind_of(group) if kind == PORTABILITY else kind, text, right) for kind, group, text, right in follows
        ],
    )


CUSTOM = Dataset(
    "custom",
    Settings,
    (
        Layout("custom records", ("prompt", "target"), _custom, optional=_OPTIONAL),
        Layout("edit requests", ("prompt", "target_new"), request_items, optional=OPTIONAL),
    ),
)
