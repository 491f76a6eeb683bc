"""Questions that a record puts to a model, a model's answers, and checks of a headline against the questions.

| probe kind | target | alternative |
|---|---|---|
| rewrite (the request's own prompt), paraphrase | ``request.target`` | ``request.target_true`` |
| locality that asks for ``request.target_true`` (CounterFact) | ``probe.target`` | ``request.target`` |
| alias, reasoning, multi_hop, portability, chain | ``probe.target`` | none |
| earlier_edit, original (of an edit that revises another) | ``probe.target`` | ``request.target`` |
| other locality, subject_fact, unrelated | ``probe.target`` | none |

A locality or subject_fact probe without a target has no right answer: its next token alone is compared with the
unedited model's. An answer that is spelt like the target (case aside) is no alternative.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from editbench.checks import unknown
from editbench.evaluation import generated_text
from editbench.evaluation.metrics import GENERATING, get_metric
from editbench.evaluation.probe_answers import ProbeAnswers
from editbench.model.generation import Generated, Generation, generate, generate_answers
from editbench.model.going_on import GoingOn
from editbench.model.likelihood import Answering, Query, TargetScore, score_targets
from editbench.records import (
    FOLLOWS,
    LOCALITY,
    PARAPHRASE,
    RETURNS,
    REWRITE,
    SUBJECT_FACT,
    UNRELATED,
    EditRecord,
    Probe,
    Route,
)
from editbench.words import folded

if TYPE_CHECKING:
    from editbench.evaluation.judge.prompt import Verdict
    from editbench.evaluation.judge.verdicts import Judge
    from editbench.evaluation.unedited import UneditedAnswers
    from editbench.model.language_model import LanguageModel
    from editbench.stream import Stream

_log = logging.getLogger(__name__)


VERSION = 3
"""Changes with the questions of a record in a stream, with those left out, and with their targets."""

STAYS = (LOCALITY, SUBJECT_FACT, UNRELATED)
"""Probe kinds whose answer an edit should leave as it was: they are compared with the unedited model."""

FREE_TEXT = "free_text"
CONTRASTS = ("nll_contrast", "nll_difference")  # metrics that need the old answer
HEADLINE_KINDS = (REWRITE, PARAPHRASE, LOCALITY, SUBJECT_FACT, *FOLLOWS, FREE_TEXT)
"""Kinds of question of which a headline measure can be made."""


@dataclass(frozen=True, slots=True)
class Question:
    """A probe with the targets to score."""

    probe: Probe
    target: str  # the right answer; where it is not labelled, any answer, with which the model can be run
    alternative: str | None = None  # the answer that should be less likely
    labelled: bool = True  # whether a right answer is known
    also: tuple[str, ...] = ()  # other spellings of the right answer: the one that the model gives best counts

    @property
    def query(self) -> Query:
        """Prompt and targets for the model."""
        other = () if self.alternative is None else (self.alternative,)
        return Query(self.probe.prompt, (self.target, *self.also, *other))

    @property
    def own(self) -> Query:
        """Prompt and right answer alone."""
        return Query(self.probe.prompt, (self.target,))

    @property
    def spellings(self) -> tuple[str, ...]:
        """All right answers."""
        return (self.target, *self.also)

    @property
    def longest(self) -> str:
        """The right answer of most characters."""
        return max(self.spellings, key=len)

    def most_tokens(self, lm: LanguageModel) -> str:
        """The right answer of most tokens: as many may be generated."""
        spaced = lm.spaced(self.probe.prompt)
        return max(self.spellings, key=lambda text: len(lm.continuation(text, spaced))) if self.also else self.target

    @property
    def each(self) -> tuple[Question, ...]:
        """The question once for each right answer, without an alternative."""
        return tuple(Question(self.probe, target, labelled=self.labelled) for target in self.spellings)

    @property
    def stays(self) -> bool:
        """Whether the answer should be the unedited model's."""
        return self.probe.kind in STAYS


def askable(question: Question, unaskable: Callable[[Query], object]) -> tuple[Question, list[str]]:
    """The question without spellings and an old answer that the model cannot take, and what was left out."""
    if (not question.also and question.alternative is None) or not unaskable(question.query):
        return question, []
    prompt, kind = question.probe.prompt, question.probe.kind
    also = tuple(text for text in question.also if not unaskable(Query(prompt, (text,))))
    old = question.alternative
    gone = [f"{kind}: the model cannot take a spelling"] * (len(question.also) - len(also))
    if old is not None and unaskable(Query(prompt, (old,))):
        old, gone = None, [*gone, f"{kind}: the model cannot take the old answer"]
    return replace(question, also=also, alternative=old), gone


def questions(record: EditRecord) -> Iterator[Question]:
    """The record's rewrite, then its probes in order."""
    request = record.request
    for probe in (Probe(REWRITE, request.prompt, request.target), *record.probes):
        if probe.kind in (REWRITE, PARAPHRASE):
            yield Question(probe, request.target, _alternative(request.target_true, request.target), also=record.also)
        elif probe.target is None:
            yield Question(probe, request.target, labelled=False)
        elif probe.kind in RETURNS or (probe.kind == LOCALITY and probe.target == request.target_true):
            yield Question(probe, probe.target, _alternative(request.target, probe.target), also=probe.also)
        else:
            yield Question(probe, probe.target, also=probe.also)


def _alternative(answer: str | None, target: str) -> str | None:
    """The answer, unless it is the target: a contrast of equal answers is no number."""
    return None if answer is None or folded(answer) == folded(target) else answer


def question_of(probe: Probe) -> Question:
    """The question of a probe that belongs to no record; it must have a right answer."""
    if probe.target is None:
        raise ValueError(f"the question {probe.prompt!r} belongs to no record and needs a right answer (target)")
    return Question(probe, probe.target, also=probe.also)


def best_spelling(scores: Sequence[TargetScore]) -> int:
    """Index of the right answer that the model gives best: all tokens, else most of them, else the likeliest."""
    return min(
        range(len(scores)),
        key=lambda i: (
            not (scores[i].correct and all(scores[i].correct)),
            -fmean(scores[i].correct or (0,)),
            scores[i].nll if math.isfinite(scores[i].nll) else math.inf,
        ),
    )


@dataclass(frozen=True)
class Asker:
    """Asks a model, edited or not, and the judge of its answers if there is one.

    ``needs`` are the metrics', the seed of ``generation`` is also the free texts'.
    """

    lm: LanguageModel
    unedited: UneditedAnswers | None
    needs: Set[str | None]
    generation: Generation
    tokens_per_batch: int | None
    judge: Judge | None = None

    def answers(self, asked: Sequence[tuple[Question, str | None]], editor: Answering | None) -> list[ProbeAnswers]:
        """The answers to questions, each given with its record's id."""
        questions = [question for question, _ in asked]
        queries = [question.query for question in questions]
        scores, generated = self._scored(queries, questions, editor)
        nothing = [None] * len(asked)
        routes: Sequence[Route | None] = nothing
        if editor is not None and "route" in self.needs:
            routes = editor.route([question.probe.prompt for question in questions]) or nothing
        verdicts: Sequence[Verdict | None] = nothing
        if self.judge is not None:
            verdicts = self.judge.verdicts(list(zip(questions, generated, strict=True)))
        found = []
        columns = zip(asked, scores, generated, verdicts, routes, strict=True)
        for (question, record), every, text, verdict, route in columns:
            right, others = every[: len(question.spellings)], every[len(question.spellings) :]
            chosen = best_spelling(right)
            target, unedited = right[chosen], self.unedited if question.stays else None
            before = unedited.score_of(question.each[chosen]) if unedited is not None else None
            if not question.labelled:
                target, before = target.first(), before.first() if before is not None else None
            answers = ProbeAnswers(
                target=target,
                alternative=others[0] if others and not self._alike(question) else None,
                before=before,
                gold=question.target if question.labelled else None,
                also=question.also,
                spelling=chosen,
                generated=text,
                generated_before=unedited.generated_for(question, self.lm) if unedited is not None else None,
                verdict=verdict,
                route=route,
                edit=None if question.stays else record,
            )
            found.append(answers)
        return found

    def _scored(
        self, queries: Sequence[Query], questions: Sequence[Question], editor: Answering | None
    ) -> tuple[list[tuple[TargetScore, ...]], Sequence[Generated | None]]:
        """Scores of the questions' queries, and the answers to their prompts, if metrics need them, in one pass."""
        options: Any = {"editor": editor, "tokens_per_batch": self.tokens_per_batch}
        if self.needs.isdisjoint(GENERATING):
            return score_targets(self.lm, queries, **options), [None] * len(queries)
        asked = [(question.probe.prompt, question.most_tokens(self.lm)) for question in questions]
        going_on = GoingOn.of(self.lm, asked, self.generation, **options)
        scores = score_targets(self.lm, queries, **options, going_on=going_on)
        known = going_on.found if going_on is not None else None
        return scores, generate_answers(self.lm, asked, self.generation, **options, known=known)

    def free_texts(self, prompts: Sequence[str], editor: Answering | None) -> list[Generated]:
        """A free text after each prompt, at most :data:`~editbench.evaluation.generated_text.TOKENS` long with it."""
        longest = min(generated_text.TOKENS, self.lm.max_length)
        limits = [max(1, longest - len(self.lm.encode(prompt).ids)) for prompt in prompts]
        settings, tokens = Generation(top_k=generated_text.TOP_K, seed=self.generation.seed), self.tokens_per_batch
        if not prompts:
            return []
        return generate(self.lm, prompts, limits, settings=settings, editor=editor, tokens_per_batch=tokens)

    def _alike(self, question: Question) -> bool:
        """Whether both answers have the same tokens: a tokenizer may know neither."""
        assert question.alternative is not None
        spaced = self.lm.spaced(question.probe.prompt)
        return self.lm.continuation(question.alternative, spaced) == self.lm.continuation(question.target, spaced)


def check_headline(headline: Mapping[str, str], metrics: Sequence[str]) -> None:
    """Refuse unknown metrics, and headline measures ("<probe kind>.<metric>") that no score can be made of.

    ``metrics`` are those that the run scores.
    """
    for name in metrics:
        get_metric(name)
    for name, measure in headline.items():
        kind, _, metric = measure.partition(".")
        shown = f"the headline measure {name}={measure!r}"
        if kind not in HEADLINE_KINDS:
            raise unknown(f"kind of question in the headline measure {name}={measure!r}", kind, HEADLINE_KINDS)
        found = get_metric(metric)
        if not found.share:
            raise ValueError(
                f"{shown} is no share: {metric} may lie outside 0 and 1, and the score is a mean of shares; choose "
                "another metric for protocol.headline"
            )
        if (found.needs == FREE_TEXT) != (kind == FREE_TEXT):
            raise ValueError(f"{shown} does not exist: {metric} scores no {kind}")
        if metric not in metrics:
            known = ", ".join(metrics)
            raise ValueError(f"{shown} is not scored: add {metric} to protocol.metrics, which has {known}")


def check_questions(headline: Mapping[str, str], stream: Stream) -> None:
    """Refuse a headline measure without a question in the stream; warn if most datasets have such questions.

    So too if every question of locality is about its own record's subject, where it is never asked.
    """
    kinds = {REWRITE, *(probe.kind for record in stream.records for probe in record.probes)}
    kinds |= {FREE_TEXT for record in stream.records if record.free_text is not None}
    for name, measure in headline.items():
        kind, _, metric = measure.partition(".")
        if metric in CONTRASTS and all(record.request.target_true is None for record in stream.records):
            raise ValueError(
                f"the headline measure {name}={measure!r} compares with the old answer, and no record has one "
                "(target_true): this protocol does not fit these records; choose another, as protocol=default"
            )
        if kind == LOCALITY and kind in kinds and _about_own_subjects(stream):
            _log.warning(
                "every locality question is about its own record's subject, and is left out: there will be no %s, and "
                "no score; such questions are subject_facts (docs/data.md)",
                name,
            )
        if kind in kinds:
            continue
        if kind not in (PARAPHRASE, LOCALITY, SUBJECT_FACT):
            reason = f"no record has a question of the kind {kind}"
            raise ValueError(f"the headline measure {name}={measure!r} has no number: {reason}")
        _log.warning("no record has a %s question: there will be no %s, and no score", kind, name)


def _about_own_subjects(stream: Stream) -> bool:
    """Whether a record's own edit leaves out its questions of locality, in all records."""
    own = ((range(at, at + 1), probe) for at, record in enumerate(stream.records) for probe in record.probes)
    return all(stream.left_out(probe, edited) for edited, probe in own if probe.kind == LOCALITY)
