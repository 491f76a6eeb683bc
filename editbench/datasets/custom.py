"""Custom records: a user's own data, in JSON Lines or a JSON array.

Fields: ``prompt`` (with the subject, or "{}", in it) and ``target``; optional ``subject``, ``target_true``, ``id``,
``paraphrases`` (texts), ``locality`` or ``neighbours`` and ``subject_facts`` (objects ``{prompt, target}``),
``generation_prompts`` (prompts for free text) and ``snippets`` (texts that it should resemble). Other fields are
ignored, unless they resemble a known field.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record, pairs

if TYPE_CHECKING:
    from editbench.datasets.files import Row


_FIELDS = (
    *("prompt", "target", "subject", "target_true", "id", "paraphrases", "locality", "neighbours"),
    *("subject_facts", "subject_fact_prompts", "generation_prompts", "snippets"),
)


def _custom(row: Row, settings: Settings) -> Iterator[Item]:
    for name in row.fields:
        near = [] if name in _FIELDS else difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.8)
        if near:
            raise row.error(name, f"is no field of these records; did you mean {near[0]!r}?")
    yield edit_record(
        row,
        prompt=row.text("prompt"),
        subject=row.text("subject") if row.has("subject") else None,
        target=row.text("target"),
        target_true=row.text("target_true") if row.has("target_true") else None,
        paraphrases=row.texts("paraphrases") if row.has("paraphrases") else (),
        locality=pairs([*row.children("locality"), *row.children("neighbours")]),
        subject_facts=pairs(row.children("subject_facts")),
    )


CUSTOM = Dataset("custom", Settings, (Layout("custom records", ("prompt", "target"), _custom),))
