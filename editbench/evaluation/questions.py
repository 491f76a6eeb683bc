"""Which questions a record puts to a model, and which answer is right to each.

| probe kind | right answer | the other answer |
|---|---|---|
| rewrite (the request's own prompt), paraphrase | ``request.target`` | ``request.target_true`` |
| locality that asks for ``request.target_true`` (CounterFact) | ``probe.target`` | ``request.target`` |
| other locality, subject_fact, unrelated | ``probe.target`` | none |

A locality or subject_fact probe without a target has no right answer. Only its next token is looked at, and it is
compared with the unedited model's alone. An answer that is spelt like the right one (case aside) is no other answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.model.likelihood import Query
from editbench.records import LOCALITY, PARAPHRASE, REWRITE, SUBJECT_FACT, UNRELATED, Probe
from editbench.words import folded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from editbench.model.language_model import LanguageModel
    from editbench.records import EditRecord

VERSION = 2
"""Changes with what is asked of a record in a stream, what is left out, and which answers are right or other."""
STAYS = (LOCALITY, SUBJECT_FACT, UNRELATED)
"""Probe kinds whose answer an edit should leave as it was: they are compared with the unedited model."""


@dataclass(frozen=True, slots=True)
class Question:
    """A probe with the answers to score.

    Attributes:
        probe: What is asked.
        wanted: The right answer; where ``labelled`` is false, a stand-in that serves to run the model.
        other: The answer that should be less likely, if there is one.
        labelled: Whether a right answer is known.
    """

    probe: Probe
    wanted: str
    other: str | None = None
    labelled: bool = True

    @property
    def query(self) -> Query:
        """The question as it is put to the model."""
        return Query(self.probe.prompt, (self.wanted,) if self.other is None else (self.wanted, self.other))

    @property
    def stays(self) -> bool:
        """Whether the answer should be the unedited model's."""
        return self.probe.kind in STAYS

    def too_long(self, lm: LanguageModel) -> str | None:
        """Why the model cannot take the question with each of its answers; None where it can."""
        return lm.too_long(self.probe.prompt, *self.query.targets)


def questions(record: EditRecord) -> Iterator[Question]:
    """The record's questions: the rewrite first, then its probes in order."""
    request = record.request
    for probe in (Probe(REWRITE, request.prompt, request.target), *record.probes):
        if probe.kind in (REWRITE, PARAPHRASE):
            yield Question(probe, request.target, _other(request.target_true, request.target))
        elif probe.target is None:
            yield Question(probe, request.target, labelled=False)
        elif probe.kind == LOCALITY and probe.target == request.target_true:
            yield Question(probe, probe.target, _other(request.target, probe.target))
        else:
            yield Question(probe, probe.target)


def _other(answer: str | None, wanted: str) -> str | None:
    """The answer, unless it is the wanted one: a contrast of equal answers is no number."""
    return None if answer is None or folded(answer) == folded(wanted) else answer


def question_of(probe: Probe) -> Question:
    """The question of a probe that belongs to no record.

    Raises:
        ValueError: It has no right answer.
    """
    if probe.target is None:
        raise ValueError(f"the question {probe.prompt!r} belongs to no record and needs a right answer (target)")
    return Question(probe, probe.target)
