"""The evaluator: puts records' questions and text collections to a model and makes rows for the results."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from editbench.evaluation import fluency
from editbench.evaluation.drift import last_hidden, mean_change
from editbench.evaluation.metrics import ProbeAnswers, get_metric, list_metrics
from editbench.evaluation.perplexity import mean_of_three, summarise, text_scores
from editbench.evaluation.questions import questions
from editbench.model.generation import Generation, generate
from editbench.model.likelihood import NO_ANSWER, answer
from editbench.records import REWRITE, UNRELATED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from editbench.evaluation.fluency import GeneratedTexts
    from editbench.evaluation.general_ability.base import Ability, AbilityTest
    from editbench.evaluation.questions import Question
    from editbench.evaluation.unedited import UneditedAnswers
    from editbench.model.generation import Said
    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Answer, Answering
    from editbench.records import EditRecord, Passage, Probe, Route

_UNSCORED = ("unsupported", "failed", "skipped")


def never(probe: Probe) -> str | None:
    """Leave no probe out."""
    return None


@dataclass
class _Examination:
    """One record on its way: what is asked, why other things are not, the evidence by question, and the free_text."""

    record: EditRecord
    position: int
    questions: list[Question]
    prompts: list[str]
    left_out: Counter[str]
    evidence: list[ProbeAnswers] = field(default_factory=list)
    writing: GeneratedTexts | None = None


class Evaluator:
    """Scores a model, edited or not, on records and texts.

    Attributes:
        metrics: The metrics that are applied to every question.
        free_text_metrics: The metrics that are applied to each record's free text.
        texts: Text collections by name.
        unrelated: Questions of no record.
        ability: Tests of general ability.
    """

    def __init__(
        self,
        lm: LanguageModel,
        *,
        unedited: UneditedAnswers | None = None,
        metrics: Sequence[str] | None = None,
        texts: Mapping[str, Sequence[Passage]] | None = None,
        unrelated: Sequence[Question] = (),
        ability: Sequence[AbilityTest] = (),
        sentences: bool = False,
        left_out: Callable[[Probe], str | None] = never,
        generation: Generation | None = None,
        references: Iterable[str] = (),
        max_tokens: int | None = None,
        tokens_per_batch: int | None = None,
    ) -> None:
        """Set up.

        Args:
            lm: The model.
            unedited: The unedited model's answers to all records that will be scored. Without it there is no
                agreement.
            metrics: Names; all metrics by default.
            texts: Text collections for perplexity.
            unrelated: Questions of no record.
            ability: Tests of general ability.
            sentences: Whether the records' targets are sentences, whose perplexity is a row "edited" of the texts.
            left_out: Why a probe is not asked; it is counted under its kind and that reason. None: it is asked.
            generation: How text is generated, for the metrics that look at it; greedy by default. Its seed is that of
                the free texts.
            references: Texts that free texts are compared with, of all records: their document frequencies.
            max_tokens: Tokens kept of each text.
            tokens_per_batch: As in :func:`~editbench.model.likelihood.answer`.

        Raises:
            ValueError: Unknown metric (with a did-you-mean).
        """
        self.lm = lm
        self.unedited = unedited
        wanted = list_metrics() if metrics is None else [get_metric(name) for name in metrics]
        self.metrics = [metric for metric in wanted if metric.on == "probe"]
        self.free_text_metrics = [metric for metric in wanted if metric.on == "free_text"]
        self.texts = dict(texts or {})
        self._sentences = sentences or "accurate" in self.texts
        self._left_out = left_out
        self._too_long = cache(lambda question: question.too_long(lm))
        self._unasked = Counter(why for question in unrelated if (why := self._unanswerable(question)))
        self.unrelated = tuple(question for question in unrelated if not self._unanswerable(question))
        self.ability = tuple(ability)
        self._generation = generation or Generation()
        self._idf = fluency.Idf(references)
        self._max_tokens = max_tokens
        self._tokens_per_batch = tokens_per_batch
        self._rewrites: list[Answer] = []
        self._rewritten_at: tuple[str, int] | None = None
        self._hidden: Tensor | None = None  # (N, d), of the unedited model
        self._able: tuple[int, list[Ability]] | None = None  # the last measured, with the edits then in the model

    def score(
        self,
        records: Sequence[tuple[EditRecord, int]],
        *,
        stage: str,
        edits: int,
        batch: int,
        editor: Answering | None = None,
        unsupported: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Score records as the model stands now.

        Args:
            records: Records with their position in the stream.
            stage: When this is: "before", "immediate", "interim" or "final".
            edits: Edits in the model.
            batch: Index of the last batch.
            editor: The editor at work, if there is one.
            unsupported: Why records are not scored, by id. A reason "failed: …" or "skipped: …" gives the row that
                status, any other "unsupported". A record whose own question the model cannot take is unsupported, too.

        Returns:
            One row for each record, in order, as ``editbench.results`` stores them.

        Raises:
            ValueError: The baseline was computed for other records.
        """
        if self._rewritten_at != (stage, edits):
            self._rewritten_at, self._rewrites = (stage, edits), []
        reasons = {**self._unsupported(record for record, _ in records), **(unsupported or {})}
        stamp = {"stage": stage, "edits": edits, "batch": batch}
        examined = [self._prepare(record, position) for record, position in records if record.id not in reasons]
        self._ask(examined, editor)
        self._have_written(examined, editor)
        scored = (self._scored_row(one) for one in examined)
        return [
            {**stamp, **(_unscored_row(record, position, reasons[record.id]) if record.id in reasons else next(scored))}
            for record, position in records
        ]

    def score_texts(self, stage: str, edits: int, batch: int, editor: Answering | None = None) -> list[dict[str, Any]]:
        """Score the text collections as the model stands now: one row for each.

        Where targets are sentences, and beside "accurate", there is "edited": the targets of the records that
        :meth:`score` scored at this stage, given their prompts; and with accurate and plain texts "mean_of_three",
        their mean as SCEN has it. Call it after that, with the same edits in the model.
        """
        editor = editor.for_texts() if editor is not None else None
        scores = {
            name: text_scores(
                self.lm,
                passages,
                editor=editor,
                max_tokens=self._max_tokens,
                tokens_per_batch=self._tokens_per_batch,
            )
            for name, passages in self.texts.items()
        }
        if self._sentences and self._rewrites:
            scores["edited"] = summarise(self._rewrites)
        three = mean_of_three(scores)
        if three is not None:
            scores["mean_of_three"] = three
        stamp = {"stage": stage, "edits": edits, "batch": batch}
        return [{**stamp, "of": f"perplexity.{name}", "scores": of_texts} for name, of_texts in scores.items()]

    def score_unrelated(
        self, stage: str, edits: int, batch: int, editor: Answering | None = None
    ) -> list[dict[str, Any]]:
        """Score the questions of no record as the model stands now: one row of means over them, or none."""
        if not self.unrelated:
            return []
        values: dict[str, list[float]] = defaultdict(list)
        for evidence in self._evidence([(question, None) for question in self.unrelated], editor):
            for metric in self.metrics:
                value = metric.score(evidence)
                if value is not None:
                    values[metric.name].append(value)
        scores = {name: sum(several) / len(several) for name, several in values.items()}
        stamp = {"stage": stage, "edits": edits, "batch": batch}
        counts = {"questions": len(self.unrelated), **({"left_out": self._unasked.total()} if self._unasked else {})}
        return [{**stamp, "of": UNRELATED, "scores": {**counts, **scores}}]

    def score_ability(
        self, stage: str, edits: int, batch: int, editor: Answering | None = None
    ) -> list[dict[str, Any]]:
        """Measure general ability as the model stands now: one row for each task.

        A checkpoint and the end with the same edits in the model are measured once.
        """
        if self._able is None or self._able[0] != edits:
            self._able = edits, [one for test in self.ability for one in test.measure(self.lm, editor)]
        stamp = {"stage": stage, "edits": edits, "batch": batch}
        return [{**stamp, **one.row()} for one in self._able[1]]

    def remember_hidden(self) -> None:
        """Keep the model's hidden states on the plain texts, to compare with later. The model must be unedited."""
        if self.texts.get("plain"):
            self._hidden = last_hidden(self.lm, self.texts["plain"])

    def hidden_change(self, editor: Answering | None = None) -> float | None:
        """Mean relative change of these states (:func:`~editbench.evaluation.drift.mean_change`); None without them."""
        if self._hidden is None:
            return None
        return mean_change(last_hidden(self.lm, self.texts["plain"], editor), self._hidden)

    # -- private --------------------------------------------------------------------------------------------------

    def _unsupported(self, records: Iterable[EditRecord]) -> dict[str, str]:
        """Why the own question of records cannot be put to the model, by id."""
        asked = ((record.id, self._too_long(next(questions(record)))) for record in records)
        return {id: f"unsupported: {why}" for id, why in asked if why is not None}

    def _unanswerable(self, question: Question) -> str | None:
        """Kind of a probe that is not asked, and why."""
        why = self._left_out(question.probe)
        if why is None and self._too_long(question) is not None:
            why = "too long for the model"
        return None if why is None else f"{question.probe.kind}: {why}"

    def _prepare(self, record: EditRecord, position: int) -> _Examination:
        own, *others = questions(record)
        reasons = [self._unanswerable(question) for question in others]
        asked = [question for question, why in zip(others, reasons, strict=True) if why is None]
        free_text = record.free_text.prompts if record.free_text is not None and self.free_text_metrics else ()
        prompts = [prompt for prompt in free_text if len(self.lm.encode(prompt).ids) < self.lm.max_length]
        reasons += ["free text: too long for the model"] * (len(free_text) - len(prompts))
        left_out = Counter([*record.left_out, *filter(None, reasons)])
        return _Examination(record, position, [own, *asked], prompts, left_out)

    def _ask(self, examined: list[_Examination], editor: Answering | None) -> None:
        """Fill in the evidence: all questions of all records go through the model together."""
        asked = [(question, one.record.id) for one in examined for question in one.questions]
        found = iter(self._evidence(asked, editor))
        for one in examined:
            one.evidence = [next(found) for _ in one.questions]
            for question, evidence in zip(one.questions, one.evidence, strict=True):
                if question.probe.kind == REWRITE:
                    self._rewrites.append(evidence.wanted)

    def _evidence(
        self, asked: Sequence[tuple[Question, str | None]], editor: Answering | None
    ) -> Iterator[ProbeAnswers]:
        """What is known about each question, given with its record's id."""
        questions = [question for question, _ in asked]
        answers = answer(self.lm, [q.query for q in questions], editor=editor, tokens_per_batch=self._tokens_per_batch)
        generates = any(metric.generates for metric in self.metrics)
        said = self._generate(questions, editor) if generates else [None] * len(asked)
        recognised = self._recognise(questions, editor)
        for (question, record), (wanted, *others), text, seen in zip(asked, answers, said, recognised, strict=True):
            unedited = self.unedited if question.stays else None
            before = unedited.answer_to(question) if unedited is not None else None
            if not question.labelled:
                wanted, before = wanted.first(), before.first() if before is not None else None
            yield ProbeAnswers(
                wanted,
                others[0] if others and not self._alike(question) else None,
                before,
                question.wanted if question.labelled else None,
                text,
                unedited.said_to(question) if unedited is not None else None,
                seen,
                None if question.stays else record,
            )

    def _alike(self, question: Question) -> bool:
        """Whether both answers are the same to the model: a tokenizer may know neither."""
        assert question.other is not None
        return self.lm.continuation(question.other) == self.lm.continuation(question.wanted)

    def _generate(self, asked: Sequence[Question], editor: Answering | None) -> list[Said | None]:
        """What the model says to each question; None where the target does not fit (:meth:`Generation.limit`)."""
        limits = [self._generation.limit(self.lm, question.probe.prompt, question.wanted) for question in asked]
        able = [(q.probe.prompt, limit) for q, limit in zip(asked, limits, strict=True) if limit is not None]
        said = iter(
            generate(
                self.lm,
                [prompt for prompt, _ in able],
                [limit for _, limit in able],
                settings=self._generation,
                editor=editor,
                tokens_per_batch=self._tokens_per_batch,
            )
        )
        return [None if limit is None else next(said) for limit in limits]

    def _recognise(self, asked: Sequence[Question], editor: Answering | None) -> Sequence[Route | None]:
        """What the method sees in each question, where a metric wants to know."""
        nothing = [None] * len(asked)
        if editor is None or not any(metric.recognises for metric in self.metrics):
            return nothing
        return editor.route([question.probe.prompt for question in asked]) or nothing

    def _have_written(self, examined: list[_Examination], editor: Answering | None) -> None:
        """Fill in the free text of the records that ask for it, all in the same batches."""
        prompts = [prompt for one in examined for prompt in one.prompts]
        if not prompts:
            return
        most = min(fluency.TOKENS, self.lm.max_length)
        limits = [max(1, most - len(self.lm.encode(prompt).ids)) for prompt in prompts]
        settings = Generation(top_k=fluency.TOP_K, seed=self._generation.seed)
        said = iter(
            generate(
                self.lm,
                prompts,
                limits,
                settings=settings,
                editor=editor,
                tokens_per_batch=self._tokens_per_batch,
            )
        )
        for one in examined:
            if one.record.free_text is not None and one.prompts:
                own = [next(said) for _ in one.prompts]
                texts, finite = tuple(one.whole for one in own), all(one.finite for one in own)
                one.writing = fluency.GeneratedTexts(texts, one.record.free_text.references, self._idf, finite)

    def _scored_row(self, one: _Examination) -> dict[str, Any]:
        values: dict[str, list[float]] = defaultdict(list)
        for question, evidence in zip(one.questions, one.evidence, strict=True):
            for metric in self.metrics:
                value = metric.score(evidence)
                if value is not None:
                    values[f"{question.probe.kind}.{metric.name}"].append(value)
        for metric in self.free_text_metrics if one.writing is not None else ():
            value = metric.score(one.writing)
            if value is not None:
                values[f"free_text.{metric.name}"].append(value)
        return {
            **_head(one.record, one.position, "scored", None),
            "scores": {name: sum(several) / len(several) for name, several in values.items()},
            "left_out": dict(one.left_out),
            "probes": [dict(self._details(q, e)) for q, e in zip(one.questions, one.evidence, strict=True)],
        }

    def _details(self, question: Question, evidence: ProbeAnswers) -> Iterator[tuple[str, Any]]:
        """What the row tells about one probe."""
        yield "kind", question.probe.kind
        yield "prompt", question.probe.prompt
        yield "target", question.wanted if question.labelled else None
        yield "nll", evidence.wanted.nll if question.labelled else None
        if evidence.other is not None:
            yield "other_nll", evidence.other.nll
        yield "correct", list(evidence.wanted.correct)
        yield "answer", self._text(evidence.wanted)
        if self.unedited is not None:
            before = self.unedited.answer_to(question)
            yield "before", self._text(before if question.labelled else before.first())
        if evidence.said is not None:
            yield "said", evidence.said.text
        if evidence.said_before is not None:
            yield "said_before", evidence.said_before.text
        if evidence.wanted.cut:
            yield "cut", True
        if evidence.recognised is not None:
            yield "activation", evidence.recognised.activation
            yield "answered_by", evidence.recognised.id

    def _text(self, said: Answer) -> str:
        return str(self.lm.tokenizer.decode([i for i in said.argmax if i != NO_ANSWER])).strip()


def _head(record: EditRecord, position: int, status: str, reason: str | None) -> dict[str, Any]:
    return {"record": record.id, "position": position, "status": status, "reason": reason}


def _unscored_row(record: EditRecord, position: int, reason: str) -> dict[str, Any]:
    kind = reason.partition(":")[0]
    status = kind if kind in _UNSCORED else "unsupported"
    return {**_head(record, position, status, reason), "scores": {}, "left_out": {}, "probes": []}
