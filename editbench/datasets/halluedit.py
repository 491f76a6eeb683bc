"""HalluEditBench (Huang et al., 2025, arXiv:2410.16251): facts that a model gets wrong, a table a topic.

The questions over two to six facts are multi-hop probes; those that want yes or no, and the one about the reversed
relation, are of the kind portability. The question of locality asks for another fact about the subject (subject_fact)
and has no answer: it is compared with the unedited model's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record
from editbench.records import MULTI_HOP, PORTABILITY

if TYPE_CHECKING:
    from editbench.datasets.rows import Row

_HOPS = tuple(f"{hops}hop" for hops in range(2, 7))
_YES_OR_NO = {"yes_question": "Yes", "no_question": "No"}


def _halluedit(row: Row, settings: Settings) -> Iterator[Item]:
    follows = [
        (MULTI_HOP, text, row.several(f"answer_{hop}")) for hop in _HOPS for text in row.several(f"question_{hop}")
    ]
    follows += [(PORTABILITY, text, [right]) for name, right in _YES_OR_NO.items() for text in row.several(name)]
    follows += [(PORTABILITY, text, [row.text("subject")]) for text in row.several("reversed_relation_question")]
    yield edit_record(
        row,
        prompt=row.text("question"),
        subject=row.text("subject"),
        target=row.right("object"),
        paraphrases=row.several("paraphrased_question"),
        subject_facts=[(text, None) for text in row.several("locality_question")],
        follows=follows,
        relation=row.text("relation") if row.filled("relation") else None,
    )


HALLUEDIT = Dataset(
    name="halluedit",
    settings=Settings,
    layouts=(
        Layout(
            "HalluEditBench",
            ("subject", "object", "question"),
            _halluedit,
            optional=(
                *("relation", "paraphrased_question", "locality_question", "reversed_relation_question"),
                *_YES_OR_NO,
                *(f"{what}_{hop}" for hop in _HOPS for what in ("question", "answer")),
            ),
            unused=(
                "topic",
                "multiple_choices",
                "multiple_choice_with_letters",
                "multiple_choice_labels",
                "output_*",
                "eval_*",
            ),
        ),
    ),
)
