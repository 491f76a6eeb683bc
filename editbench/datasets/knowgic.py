"""KnowGIC (ThinkEval, 2025) and MQuAKE (Zhong et al., 2023, arXiv:2305.14795): edits with questions over facts.

KnowGIC: the questions of an edit's chain should no longer lead to the old fact (kind chain), those of its broader
context should stay (locality). MQuAKE: the questions over several facts have the new answer (multi_hop), put with the
last edit of their record, since they may need all of its edits. An edit's own question in other words is a paraphrase.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from editbench.datasets.base import Dataset, Item, Layout, Settings, edit_record
from editbench.records import BRACES, CHAIN, LOCALITY, MULTI_HOP

if TYPE_CHECKING:
    from editbench.datasets.rows import Row

Questions = list[tuple[str, str, list[str]]]  # kind, prompt, right answers


def _knowgic(row: Row, settings: Settings) -> Iterator[Item]:
    yield from _edits(
        row, [*_questions(row.child("chain"), CHAIN), *_questions(row.child("broader_context"), LOCALITY)]
    )


def _mquake(row: Row, settings: Settings) -> Iterator[Item]:
    right = [*row.several("new_answer"), *row.several("new_answer_alias")]
    yield from _edits(row, [(MULTI_HOP, text, right) for text in row.several("questions")])


def _edits(row: Row, asked: Questions) -> Iterator[Item]:
    """A record for each edit of a row; the last has the questions of the row."""
    edits = row.children("requested_rewrite")
    if not edits:
        raise row.error("requested_rewrite", "is empty; it must hold the edits")
    for place, edit in enumerate(edits):
        true = edit.child("target_true").text("str") if edit.has("target_true") else None
        last = place == len(edits) - 1
        yield edit_record(
            row,
            id=row.id if len(edits) == 1 else f"{row.id}.{place}",
            prompt=edit.text("prompt"),
            subject=edit.text("subject"),
            target=edit.child("target_new").text("str"),
            target_true=true,
            paraphrases=edit.several("question"),
            locality=[(prompt, right) for kind, prompt, right in asked if kind == LOCALITY and last],
            follows=[one for one in asked if one[0] != LOCALITY and last],
            relation=edit.text("relation_id") if edit.has("relation_id") else None,
        )


def _questions(part: Row, kind: str) -> Questions:
    """Prompts of a part, their subjects filled in, each with its answer."""
    prompts, subjects, right = (part.texts(name) for name in ("prompts", "subjects", "answers"))
    if not len(prompts) == len(subjects) == len(right):
        raise part.error("prompts", f"are {len(prompts)}, for {len(subjects)} subjects and {len(right)} answers")
    filled = (prompt.replace(BRACES, subject) for prompt, subject in zip(prompts, subjects, strict=True))
    return [(kind, prompt, [answer]) for prompt, answer in zip(filled, right, strict=True)]


KNOWGIC = Dataset(
    name="knowgic",
    settings=Settings,
    layouts=(
        Layout(
            "KnowGIC",
            ("requested_rewrite", "chain", "broader_context"),
            _knowgic,
            unused=("chain.questions", "broader_context.questions"),
        ),
        Layout(
            "MQuAKE",
            ("requested_rewrite", "questions", "new_answer"),
            _mquake,
            optional=("new_answer_alias",),
            unused=("answer", "answer_alias", "single_hops", "new_single_hops", "orig"),
        ),
    ),
)
