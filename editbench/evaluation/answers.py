"""Answers of a model to questions: scores of targets, generated answers and routes, all in the same batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.evaluation import fluency
from editbench.evaluation.metrics import ProbeAnswers
from editbench.model.generation import Generation, generate
from editbench.model.likelihood import score_targets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from editbench.evaluation.questions import Question
    from editbench.evaluation.unedited import UneditedAnswers
    from editbench.model.generation import Generated
    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Answering
    from editbench.records import Route


@dataclass(frozen=True)
class Asker:
    """Asks a model, edited or not; ``needs`` are those of the metrics, and the seed of ``generation`` is all texts'."""

    lm: LanguageModel
    unedited: UneditedAnswers | None
    needs: Collection[str | None]
    generation: Generation
    tokens_per_batch: int | None

    def answers(self, asked: Sequence[tuple[Question, str | None]], editor: Answering | None) -> Iterator[ProbeAnswers]:
        """The answers to questions, each given with its record's id."""
        questions = [question for question, _ in asked]
        queries = [question.query for question in questions]
        scores = score_targets(self.lm, queries, editor=editor, tokens_per_batch=self.tokens_per_batch)
        generates = "generation" in self.needs
        generated = self._generated_answers(questions, editor) if generates else [None] * len(asked)
        routes = self._routes(questions, editor)
        for (question, record), (target, *others), text, route in zip(asked, scores, generated, routes, strict=True):
            unedited = self.unedited if question.stays else None
            before = unedited.score_of(question) if unedited is not None else None
            if not question.labelled:
                target, before = target.first(), before.first() if before is not None else None
            yield ProbeAnswers(
                target=target,
                alternative=others[0] if others and not self._alike(question) else None,
                before=before,
                gold=question.target if question.labelled else None,
                generated=text,
                generated_before=unedited.generated_for(question) if unedited is not None else None,
                route=route,
                edit=None if question.stays else record,
            )

    def free_texts(self, prompts: Sequence[str], editor: Answering | None) -> Iterator[Generated]:
        """A free text after each prompt, at most :data:`~editbench.evaluation.fluency.TOKENS` long with it."""
        longest = min(fluency.TOKENS, self.lm.max_length)
        limits = [max(1, longest - len(self.lm.encode(prompt).ids)) for prompt in prompts]
        return self._generate(prompts, limits, Generation(top_k=fluency.TOP_K, seed=self.generation.seed), editor)

    def _alike(self, question: Question) -> bool:
        """Whether both answers have the same tokens: a tokenizer may know neither."""
        assert question.alternative is not None
        return self.lm.continuation(question.alternative) == self.lm.continuation(question.target)

    def _generated_answers(self, asked: Sequence[Question], editor: Answering | None) -> list[Generated | None]:
        """The generated answers; None where the target does not fit (:meth:`Generation.limit`)."""
        limits = [self.generation.limit(self.lm, question.probe.prompt, question.target) for question in asked]
        prompts = [question.probe.prompt for question, limit in zip(asked, limits, strict=True) if limit is not None]
        fitting = [limit for limit in limits if limit is not None]
        answers = self._generate(prompts, fitting, self.generation, editor)
        return [None if limit is None else next(answers) for limit in limits]

    def _generate(
        self, prompts: Sequence[str], limits: Sequence[int], settings: Generation, editor: Answering | None
    ) -> Iterator[Generated]:
        tokens = self.tokens_per_batch
        return iter(generate(self.lm, prompts, limits, settings=settings, editor=editor, tokens_per_batch=tokens))

    def _routes(self, asked: Sequence[Question], editor: Answering | None) -> Sequence[Route | None]:
        """The edit that the method chooses for each question, where a metric needs it."""
        nothing = [None] * len(asked)
        if editor is None or "route" not in self.needs:
            return nothing
        return editor.route([editor.asked(question.probe.prompt) for question in asked]) or nothing
