"""Evaluator: asks a model, edited or not, the questions of records and texts, and makes rows of scores."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache as memoise
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from editbench.config import ProtocolConfig
from editbench.evaluation import generated_text
from editbench.evaluation.drift import last_hidden, mean_change
from editbench.evaluation.hidden_shift import Fact, HiddenShift
from editbench.evaluation.metrics import GENERATING, ProbeAnswers, get_metric, list_metrics
from editbench.evaluation.perplexity import mean_of_three, summarise, text_scores
from editbench.evaluation.questions import Asker, Question, askable, question_of, questions
from editbench.evaluation.scoring_plan import ScoringPlan
from editbench.evaluation.unedited import UneditedAnswers, ask_unedited
from editbench.model.generation import Generated, Generation
from editbench.model.likelihood import NOT_A_NUMBER, Answering, TargetScore
from editbench.records import REWRITE, UNRELATED, EditRecord, Passage, Probe, RecordSet
from editbench.results.schema import RECORD_STATUSES

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.costs import CachedCosts
    from editbench.evaluation.general_ability import Ability, AbilityTest
    from editbench.evaluation.judge.verdicts import Judge
    from editbench.model.language_model import LanguageModel
    from editbench.stream import Stream

Row = dict[str, Any]
"""Row of scores.jsonl: of a record, or of the model as a whole."""
NO_TOKENS = "the model has no tokens for it"  # why a question is left out
PLAIN_SAMPLE = "plain_sample"  # the first plain texts, which stand for all of them at evaluation points
LeftOut = Callable[[Probe, int, "int | None"], "str | None"]


class _Examination(NamedTuple):
    """A record at its position in the stream, with the questions and prompts for free text that are asked."""

    record: EditRecord
    position: int
    questions: list[Question]
    prompts: list[str]
    left_out: Counter[str]


class Evaluator:
    """Scores a model on records, on texts by name, on questions of no record, and on tests of general ability."""

    def __init__(
        self,
        lm: LanguageModel,
        *,
        unedited: UneditedAnswers | None = None,
        metrics: Iterable[str] | None = None,
        texts: Mapping[str, Sequence[Passage]] | None = None,
        unrelated: Sequence[Question] = (),
        ability: Sequence[AbilityTest] = (),
        sentences: bool = False,
        left_out: LeftOut = lambda probe, edits, position: None,
        generation: Generation | None = None,
        references: Iterable[str] = (),
        untouched: Iterable[Fact] = (),
        judge: Judge | None = None,
        max_tokens: int | None = None,
        tokens_per_batch: int | None = None,
    ) -> None:
        """Set up; limits as in :func:`~editbench.evaluation.perplexity.text_scores`.

        Args:
            unedited: Answers to all records that will be scored; None: metrics that need them have no number.
            metrics: Names; None: all.
            sentences: Whether the records' targets are sentences, whose perplexity is that of the texts "edited".
            left_out: Reason why a probe is not asked, counted under its kind; None: it is asked. Its arguments are the
                probe, the number of edits in the model, and the position of the probe's record, None without one.
            generation: Greedy by default. Its seed is also that of the free texts.
            references: Of all records' free texts: their document frequencies count.
            untouched: Facts that no edit touches, whose hidden states are compared.
            judge: Of generated answers; without one its metrics have no number.
        """
        self.lm = lm
        self.unedited = unedited
        chosen = list_metrics() if metrics is None else [get_metric(name) for name in metrics]
        self.metrics = [metric for metric in chosen if metric.needs != "free_text"]
        self.free_text_metrics = [metric for metric in chosen if metric.needs == "free_text"]
        self.texts = dict(texts or {})
        self._sentences = sentences or "accurate" in self.texts
        self._left_out = left_out
        self._unaskable = memoise(lambda query: lm.unaskable(query.prompt, *query.targets))
        self.unrelated = tuple(unrelated)
        self.ability = tuple(ability)
        needs = {metric.needs for metric in chosen}
        self._asker = Asker(lm, unedited, needs, generation or Generation(), tokens_per_batch, judge)
        self._idf = generated_text.Idf(references)
        self._limits = {"max_tokens": max_tokens, "tokens_per_batch": tokens_per_batch}
        self._rewrites: list[TargetScore] = []
        self._rewritten_at: tuple[str, int] | None = None
        self._hidden: Tensor | None = None  # (N, d), of the unedited model
        self._untouched = tuple(untouched)
        self._shift: HiddenShift | None = None
        self._last_ability: tuple[int, list[Ability]] | None = None  # with the edits that the model had

    @classmethod
    def build(
        cls,
        lm: LanguageModel,
        records: RecordSet,
        stream: Stream,
        protocol: ProtocolConfig,
        *,
        cache: Path,
        seed: int,
        costs: CachedCosts,
        ability: Sequence[AbilityTest] = (),
        untouched: Iterable[Fact] = (),
        judge: Judge | None = None,
    ) -> Evaluator:
        """The evaluator of a run; ``ability`` are loaded tests. Questions are put to ``lm``, which must be unedited."""
        for test in ability:
            test.learn(lm)
        generation = Generation(protocol.max_new_tokens, protocol.beams, protocol.repetition_penalty, seed=seed)
        generates = any(get_metric(name).needs in GENERATING for name in protocol.metrics)
        unrelated = [question_of(probe) for probe in records.unrelated]
        limits = {"max_tokens": protocol.max_tokens, "tokens_per_batch": protocol.tokens_per_batch}
        texts = dict(records.texts)
        if protocol.text_sample and "plain" in texts:
            texts[PLAIN_SAMPLE] = texts["plain"][: protocol.text_sample]
        unedited = ask_unedited(
            lm,
            ScoringPlan(stream, protocol, seed).asked(),
            texts,
            unrelated=unrelated,
            model_fingerprint=lm.fingerprint,
            generation=generation if generates else None,
            cache=cache / "unedited",
            costs=costs,
            **limits,
        )
        return cls(
            lm,
            unedited=unedited,
            metrics=protocol.metrics,
            texts=texts,
            unrelated=unrelated,
            ability=ability,
            sentences=records.sentences,
            left_out=lambda probe, edits, position: stream.left_out(probe, stream.in_model(edits, position)),
            generation=generation,
            references=[text for record in records.records if record.free_text for text in record.free_text.references],
            untouched=untouched,
            judge=judge,
            **limits,
        )

    def score(
        self,
        records: Sequence[tuple[EditRecord, int]],
        *,
        stage: str,
        edits: int,
        batch: int,
        editor: Answering | None = None,
        unsupported: Mapping[str, str] | None = None,
    ) -> list[Row]:
        """Score records, given with their position in the stream: a row for each, in order.

        ``unsupported`` has reasons by id why records are not scored: "failed: …" or "skipped: …" gives the row that
        status, any other reason "unsupported"; so has a record whose own question the model cannot take. Stage, edits
        and batch are those of :class:`~editbench.results.schema.RecordRow`; no editor means the unedited model.
        """
        if self._rewritten_at != (stage, edits):
            self._rewritten_at, self._rewrites = (stage, edits), []
        own = ((record.id, self._unaskable(next(questions(record)).own)) for record, _ in records)
        reasons = {**{id: f"unsupported: {why}" for id, why in own if why is not None}, **(unsupported or {})}
        asked = [(record, position) for record, position in records if record.id not in reasons]
        examined = [self._prepare(record, position, edits) for record, position in asked]
        scored = self._scored_rows(examined, editor)
        stamp = {"stage": stage, "edits": edits, "batch": batch}
        return [
            {**stamp, **(_row(record, position, reason=reasons[record.id]) if record.id in reasons else next(scored))}
            for record, position in records
        ]

    def score_texts(self, stage: str, edits: int, batch: int, editor: Answering | None = None) -> list[Row]:
        """Score the text collections: a row for each. Call it after :meth:`score`, with the same edits in the model.

        At evaluation points (``stage="interim"``) only the sample of plain texts is scored, if there is one.
        Where targets are sentences, or accurate texts exist, "edited" is a collection too: the targets of the records
        that :meth:`score` scored at this stage, given their prompts. "mean_of_three" is SCEN's mean of edited, accurate
        and plain texts, where there are all three.
        """
        editor = editor.for_texts() if editor is not None else None
        sampled = stage == "interim" and PLAIN_SAMPLE in self.texts
        named = [(name, texts) for name, texts in self.texts.items() if not sampled or name == PLAIN_SAMPLE]
        scores = {name: text_scores(self.lm, texts, editor=editor, **self._limits) for name, texts in named}
        if self._sentences and self._rewrites:
            scores["edited"] = summarise(self._rewrites)
        if (three := mean_of_three(scores)) is not None:
            scores["mean_of_three"] = three
        stamp = {"stage": stage, "edits": edits, "batch": batch}
        return [{**stamp, "of": f"perplexity.{name}", "scores": of_texts} for name, of_texts in scores.items()]

    def score_edited(self, rows: Iterable[Row], stage: str, edits: int, batch: int) -> list[Row]:
        """The row "perplexity.edited" of records whose rows of this stage are given; none unless targets are sentences.

        For records that were scored each with another model, when none has all of their edits.
        """
        own = [row["probes"][0] for row in rows if row["stage"] == stage and row.get("status") == "scored"]
        if not (self._sentences and own):
            return []
        scores = summarise(_score_of(probe) for probe in own)
        return [{"stage": stage, "edits": edits, "batch": batch, "of": "perplexity.edited", "scores": scores}]

    def score_unrelated(self, stage: str, edits: int, batch: int, editor: Answering | None = None) -> list[Row]:
        """Score the questions of no record: one row of means over them, or none."""
        asked = [question for question in self.unrelated if self._unanswerable(question, edits, None) is None]
        if not asked:
            return []
        answers = self._asker.answers([(askable(question, self._unaskable)[0], None) for question in asked], editor)
        means = _means((metric.name, metric.score(probe)) for probe in answers for metric in self.metrics)
        left_out = len(self.unrelated) - len(asked)
        counts = {"questions": len(asked), **({"left_out": left_out} if left_out else {})}
        return [{"stage": stage, "edits": edits, "batch": batch, "of": UNRELATED, "scores": {**counts, **means}}]

    def score_ability(self, stage: str, edits: int, batch: int, editor: Answering | None = None) -> list[Row]:
        """Measure general ability: a row for each task. Two stages with the same edits are measured once."""
        if self._last_ability is None or self._last_ability[0] != edits:
            self._last_ability = edits, [found for test in self.ability for found in test.measure(self.lm, editor)]
        stamp = {"stage": stage, "edits": edits, "batch": batch}
        return [{**stamp, **ability.row()} for ability in self._last_ability[1]]

    def remember_hidden(self, layer: int | None = None) -> None:
        """Keep the hidden states of plain texts, and of untouched facts at ``layer``. The model must be unedited."""
        if plain := self._drift_texts():
            self._hidden = last_hidden(self.lm, plain)
        if self._untouched and layer is not None:
            self._shift = HiddenShift(self.lm, self._untouched, layer)

    def hidden_change(self, editor: Answering | None = None) -> float | None:
        """Mean relative change of these states (:func:`~editbench.evaluation.drift.mean_change`); None without them."""
        if self._hidden is None:
            return None
        return mean_change(last_hidden(self.lm, self._drift_texts(), editor), self._hidden)

    def hidden_shift(self, editor: Answering, folder: Path | None = None) -> float | None:
        """Shift of the untouched facts' states, which are saved in ``folder``; None where none were asked for."""
        return None if self._shift is None else self._shift.measure(editor, folder)

    def _drift_texts(self) -> Sequence[Passage]:
        return self.texts.get(PLAIN_SAMPLE) or self.texts.get("plain") or ()

    def _unanswerable(self, question: Question, edits: int, position: int | None) -> str | None:
        """Kind of a probe that is not asked, and the reason."""
        why = self._left_out(question.probe, edits, position)
        if why is None and self._unaskable(question.own) is not None:
            unwritable = self.lm.unwritable(question.own.prompt, *question.own.targets)
            why = "too long for the model" if unwritable is None else NO_TOKENS
        return None if why is None else f"{question.probe.kind}: {why}"

    def _prepare(self, record: EditRecord, position: int, edits: int) -> _Examination:
        own, *others = questions(record)
        reasons = [self._unanswerable(question, edits, position) for question in others]
        kept = [own, *(question for question, why in zip(others, reasons, strict=True) if why is None)]
        found = [askable(question, self._unaskable) for question in kept]
        asked, reasons = [question for question, _ in found], [*reasons, *(why for _, gone in found for why in gone)]
        free_text = record.free_text.prompts if record.free_text is not None and self.free_text_metrics else ()
        written = [prompt for prompt in free_text if self.lm.unwritable(prompt) is None]
        prompts = [prompt for prompt in written if len(self.lm.encode(prompt).ids) < self.lm.max_length]
        reasons += [f"free text: {NO_TOKENS}"] * (len(free_text) - len(written))
        reasons += ["free text: too long for the model"] * (len(written) - len(prompts))
        left_out = Counter([*record.left_out, *filter(None, reasons)])
        return _Examination(record, position, asked, prompts, left_out)

    def _scored_rows(self, examined: list[_Examination], editor: Answering | None) -> Iterator[Row]:
        """All questions of all records go through the model together."""
        asked = [(question, one.record.id) for one in examined for question in one.questions]
        answers = iter(self._asker.answers(asked, editor))
        texts = iter(self._asker.free_texts([prompt for one in examined for prompt in one.prompts], editor))
        for one in examined:
            probes = list(zip(one.questions, islice(answers, len(one.questions)), strict=True))
            self._rewrites += [answer.target for question, answer in probes if question.probe.kind == REWRITE]
            values = [(f"{q.probe.kind}.{m.name}", m.score(answer)) for q, answer in probes for m in self.metrics]
            values += self._free_text_scores(one.record, list(islice(texts, len(one.prompts))))
            details = [dict(self._details(question, answer)) for question, answer in probes]
            scores = _means(values)
            found = {"scores": scores, "left_out": dict(one.left_out), "probes": details}
            broken = {question.probe.kind for question, answer in probes if not answer.finite}
            if of_broken := [name for name in scores if name.partition(".")[0] in broken]:
                found["nonfinite"] = of_broken  # such a score may be 0, which is a number
            yield _row(one.record, one.position, found)

    def _free_text_scores(self, record: EditRecord, texts: list[Generated]) -> list[tuple[str, float | None]]:
        if record.free_text is None or not texts:
            return []
        whole, finite = tuple(text.whole for text in texts), all(text.finite for text in texts)
        generated = generated_text.GeneratedTexts(whole, record.free_text.references, self._idf, finite)
        return [(f"free_text.{metric.name}", metric.score(generated)) for metric in self.free_text_metrics]

    def _details(self, question: Question, answers: ProbeAnswers) -> Iterator[tuple[str, Any]]:
        yield "kind", question.probe.kind
        yield "prompt", question.probe.prompt
        asked = question.each[answers.spelling]
        yield "target", asked.target if question.labelled else None
        yield "nll", answers.target.nll if question.labelled else None
        if answers.alternative is not None:
            yield "alternative_nll", answers.alternative.nll
        yield "correct", list(answers.target.correct)
        yield "answer", self._text(answers.target)
        if self.unedited is not None:
            before = self.unedited.score_of(asked)
            yield "before", self._text(before if question.labelled else before.first())
        if answers.generated is not None:
            yield "generated", answers.generated.text
        if answers.verdict is not None:
            yield "judged", answers.verdict.reply
        if answers.generated_before is not None:
            yield "generated_before", answers.generated_before.text
        if answers.target.cut:
            yield "cut", True
        if answers.route is not None:
            yield "activation", answers.route.activation
            yield "answered_by", answers.route.id

    def _text(self, score: TargetScore) -> str:
        return str(self.lm.tokenizer.decode([id for id in score.argmax if id != NOT_A_NUMBER])).strip()


def _score_of(probe: Mapping[str, Any]) -> TargetScore:
    """The score of a target from its row; NaN for a likelihood that was not finite."""
    nll = math.nan if probe["nll"] is None else probe["nll"]
    argmax = (NOT_A_NUMBER if probe["nll"] is None else 0,) * len(probe["correct"])
    return TargetScore(nll, tuple(probe["correct"]), argmax)


def _means(values: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    by_name: dict[str, list[float]] = defaultdict(list)
    for name, value in values:
        if value is not None:
            by_name[name].append(value)
    return {name: sum(numbers) / len(numbers) for name, numbers in by_name.items()}


def _row(record: EditRecord, position: int, found: Row | None = None, reason: str | None = None) -> Row:
    """The row of a record that was scored, or was not for a reason."""
    kind = "scored" if reason is None else reason.partition(":")[0]
    status = kind if kind in RECORD_STATUSES else "unsupported"
    found = found or {"scores": {}, "left_out": {}, "probes": []}
    return {"record": record.id, "position": position, "status": status, "reason": reason, **found}
