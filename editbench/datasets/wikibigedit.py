"""WikiBigEdit (Thede et al., 2025, arXiv:2503.05683): changes of Wikidata, as on the hub and in EasyEdit.

The question put by a persona is a paraphrase too; the question over two facts is a multi-hop probe.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record
from editbench.datasets.requests import OPTIONAL, request_items, zip_answers
from editbench.records import MULTI_HOP

if TYPE_CHECKING:
    from editbench.datasets.rows import Row


def _hub(row: Row, settings: Settings) -> Iterator[Item]:
    yield edit_record(
        row,
        prompt=row.text("update"),
        subject=row.text("subject"),
        target=row.right("ans"),
        paraphrases=[*row.several("rephrase"), *row.several("personas")],
        locality=zip_answers(row, "loc", "loc_ans"),
        follows=[(MULTI_HOP, *pair) for pair in zip_answers(row, "mhop", "mhop_ans")],
    )


WIKIBIGEDIT = Dataset(
    name="wikibigedit",
    settings=Settings,
    layouts=(
        Layout(
            "WikiBigEdit, hub",
            ("subject", "update", "ans"),
            _hub,
            optional=("rephrase", "personas", "loc", "loc_ans", "mhop", "mhop_ans"),
            unused=("tag",),
        ),
        Layout("WikiBigEdit, EasyEdit", ("subject", "prompt", "target_new"), request_items, optional=OPTIONAL),
    ),
)
