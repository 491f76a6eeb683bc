"""Questions that a record puts to a model, each with its right answer.

| probe kind | target | alternative |
|---|---|---|
| rewrite (the request's own prompt), paraphrase | ``request.target`` | ``request.target_true`` |
| locality that asks for ``request.target_true`` (CounterFact) | ``probe.target`` | ``request.target`` |
| other locality, subject_fact, unrelated | ``probe.target`` | none |

A locality or subject_fact probe without a target has no right answer: its next token alone is compared with the
unedited model's. An answer that is spelt like the target (case aside) is no alternative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.model.likelihood import Query
from editbench.records import LOCALITY, PARAPHRASE, REWRITE, SUBJECT_FACT, UNRELATED, EditRecord, Probe
from editbench.words import folded

if TYPE_CHECKING:
    from collections.abc import Iterator


VERSION = 2
"""Changes with the questions of a record in a stream, with those left out, and with their targets."""

STAYS = (LOCALITY, SUBJECT_FACT, UNRELATED)
"""Probe kinds whose answer an edit should leave as it was: they are compared with the unedited model."""


@dataclass(frozen=True, slots=True)
class Question:
    """A probe with the targets to score."""

    probe: Probe
    target: str  # the right answer; where it is not labelled, any answer, with which the model can be run
    alternative: str | None = None  # the answer that should be less likely
    labelled: bool = True  # whether a right answer is known

    @property
    def query(self) -> Query:
        """Prompt and targets for the model."""
        targets = (self.target,) if self.alternative is None else (self.target, self.alternative)
        return Query(self.probe.prompt, targets)

    @property
    def stays(self) -> bool:
        """Whether the answer should be the unedited model's."""
        return self.probe.kind in STAYS


def questions(record: EditRecord) -> Iterator[Question]:
    """The record's rewrite, then its probes in order."""
    request = record.request
    for probe in (Probe(REWRITE, request.prompt, request.target), *record.probes):
        if probe.kind in (REWRITE, PARAPHRASE):
            yield Question(probe, request.target, _alternative(request.target_true, request.target))
        elif probe.target is None:
            yield Question(probe, request.target, labelled=False)
        elif probe.kind == LOCALITY and probe.target == request.target_true:
            yield Question(probe, probe.target, _alternative(request.target, probe.target))
        else:
            yield Question(probe, probe.target)


def _alternative(answer: str | None, target: str) -> str | None:
    """The answer, unless it is the target: a contrast of equal answers is no number."""
    return None if answer is None or folded(answer) == folded(target) else answer


def question_of(probe: Probe) -> Question:
    """The question of a probe that belongs to no record; it must have a right answer."""
    if probe.target is None:
        raise ValueError(f"the question {probe.prompt!r} belongs to no record and needs a right answer (target)")
    return Question(probe, probe.target)
