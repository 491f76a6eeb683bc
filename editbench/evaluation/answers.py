"""Answers of a model to questions: scores of targets, generated answers and routes, all in the same batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.evaluation import fluency
from editbench.evaluation.metrics import ProbeAnswers
from editbench.model.generation import Generated, Generation, generate, generate_answers
from editbench.model.likelihood import Answering, score_targets

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from editbench.evaluation.questions import Question
    from editbench.evaluation.unedited import UneditedAnswers
    from editbench.model.language_model import LanguageModel
    from editbench.records import Route


@dataclass(frozen=True)
class Asker:
    """Asks a model, edited or not; ``needs`` are the metrics', the seed of ``generation`` is also the free texts'."""

    lm: LanguageModel
    unedited: UneditedAnswers | None
    needs: Collection[str | None]
    generation: Generation
    tokens_per_batch: int | None

    def answers(self, asked: Sequence[tuple[Question, str | None]], editor: Answering | None) -> list[ProbeAnswers]:
        """The answers to questions, each given with its record's id."""
        questions = [question for question, _ in asked]
        queries = [question.query for question in questions]
        scores = score_targets(self.lm, queries, editor=editor, tokens_per_batch=self.tokens_per_batch)
        nothing = [None] * len(asked)
        generated: Sequence[Generated | None] = nothing
        if "generation" in self.needs:
            pairs = [(question.probe.prompt, question.target) for question in questions]
            settings, tokens = self.generation, self.tokens_per_batch
            generated = generate_answers(self.lm, pairs, settings, editor=editor, tokens_per_batch=tokens)
        routes: Sequence[Route | None] = nothing
        if editor is not None and "route" in self.needs:
            routes = editor.route([editor.asked(question.probe.prompt) for question in questions]) or nothing
        found = []
        for (question, record), (target, *others), text, route in zip(asked, scores, generated, routes, strict=True):
            unedited = self.unedited if question.stays else None
            before = unedited.score_of(question) if unedited is not None else None
            if not question.labelled:
                target, before = target.first(), before.first() if before is not None else None
            answers = ProbeAnswers(
                target=target,
                alternative=others[0] if others and not self._alike(question) else None,
                before=before,
                gold=question.target if question.labelled else None,
                generated=text,
                generated_before=unedited.generated_for(question) if unedited is not None else None,
                route=route,
                edit=None if question.stays else record,
            )
            found.append(answers)
        return found

    def free_texts(self, prompts: Sequence[str], editor: Answering | None) -> list[Generated]:
        """A free text after each prompt, at most :data:`~editbench.evaluation.fluency.TOKENS` long with it."""
        longest = min(fluency.TOKENS, self.lm.max_length)
        limits = [max(1, longest - len(self.lm.encode(prompt).ids)) for prompt in prompts]
        settings, tokens = Generation(top_k=fluency.TOP_K, seed=self.generation.seed), self.tokens_per_batch
        if not prompts:
            return []
        return generate(self.lm, prompts, limits, settings=settings, editor=editor, tokens_per_batch=tokens)

    def _alike(self, question: Question) -> bool:
        """Whether both answers have the same tokens: a tokenizer may know neither."""
        assert question.alternative is not None
        return self.lm.continuation(question.alternative) == self.lm.continuation(question.target)
