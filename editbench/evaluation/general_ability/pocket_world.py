"""Test of general ability on facts of the embedded pocket world that no record edits or asks about.

The 120 facts are those of the 40 ``bystander`` subjects, who occur beside it in texts for perplexity and in unrelated
questions only.
Each fact has two trained prompts, a statement and a question, and two held-out ones:

==========  ====================================================================================================
recall      share of the trained prompts after which the fact's object is the argmax
held_out    the same of the held-out prompts
choice      share of all four after which the object is likelier than each other object of its relation (15 to 17)
==========  ====================================================================================================

Shares are taken within a fact, then over facts; the standard error is over facts. A NaN counts as a wrong answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from editbench.evaluation.general_ability import POCKET, Ability, AbilityTest
from editbench.model.likelihood import Answering, Query, TargetScore, score_targets
from editbench.pocket import world

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.pocket.world import Fact

MIN_RECALL = 0.5
"""An unedited model with less does not know the world."""


@dataclass(frozen=True)
class Item:
    """A fact with its prompts, its object, and the other objects of its relation."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]
    right: str
    others: tuple[str, ...]


def items(facts: Sequence[Fact]) -> list[Item]:
    """Items of facts; which trained prompts are used changes from fact to fact."""
    return [
        Item(
            trained=(fact.statements[index % 5], fact.questions[index % 2]),
            held_out=(fact.held_out_statement, fact.held_out_question),
            right=fact.object,
            others=tuple(other for other in fact.relation.objects if other != fact.object),
        )
        for index, fact in enumerate(facts)
    ]


class PocketAbility(AbilityTest):
    """The test "pocket"; by default it asks about the ``bystander`` subjects."""

    def __init__(self, asked: Sequence[Item] | None = None, tokens_per_batch: int | None = None) -> None:
        self.asked = list(asked or items(world.build().facts("bystander")))
        self._tokens_per_batch = tokens_per_batch

    def measure(self, lm: LanguageModel, editor: Answering | None = None) -> list[Ability]:
        """Ask all items, in the same batches; an unedited model that does not know the world is a ValueError."""
        prompts = [(p, (item.right, *item.others)) for item in self.asked for p in (*item.trained, *item.held_out)]
        queries = [Query(prompt, objects) for prompt, objects in prompts]
        answers = iter(score_targets(lm, queries, editor=editor, tokens_per_batch=self._tokens_per_batch))
        values: dict[str, list[float]] = {"recall": [], "held_out": [], "choice": []}
        for item in self.asked:
            trained, held_out = ([next(answers) for _ in several] for several in (item.trained, item.held_out))
            values["recall"].append(fmean(all(right.correct) for right, *_ in trained))
            values["held_out"].append(fmean(all(right.correct) for right, *_ in held_out))
            values["choice"].append(fmean(_chooses(*scores) for scores in (*trained, *held_out)))
        found = Ability.of_items(POCKET, values)
        if editor is None and found.scores["recall"] < MIN_RECALL:
            raise ValueError(
                f"the ability test {POCKET!r} asks about the embedded world, of which {lm.name} knows "
                f"{found.scores['recall']:.0%} unedited; for other models name tasks of lm-eval (ability=nse)"
            )
        return [found]


def _chooses(right: TargetScore, *others: TargetScore) -> bool:
    """Whether the right object is strictly the likeliest, per token."""
    return all(right.nll < other.nll for other in others)
