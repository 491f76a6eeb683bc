"""QAEdit (Yang et al., 2025, The Mirage of Model Editing, arXiv:2502.11177): questions of people.

Sources number their questions alike, so that an id has both; the mark " *" behind some answers is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record
from editbench.datasets.requests import asked

if TYPE_CHECKING:
    from editbench.datasets.rows import Row


def _qaedit(row: Row, settings: Settings) -> Iterator[Item]:
    yield edit_record(
        row,
        id=f"{row.text('source')}-{row.id}" if row.filled("source") else None,
        prompt=row.text("prompt"),
        subject=row.text("subject"),
        target=[_without_mark(text) for text in row.right("target")],
        paraphrases=row.several("rephrase"),
        locality=[(prompt, [_without_mark(text) for text in right]) for _, prompt, right in asked(row, "locality")],
    )


def _without_mark(answer: str) -> str:
    return answer.strip().removesuffix(" *")


QAEDIT = Dataset(
    name="qaedit",
    settings=Settings,
    layouts=(
        Layout(
            "QAEdit",
            ("prompt", "target", "subject"),
            _qaedit,
            optional=("rephrase", "locality", "source"),
        ),
    ),
)
