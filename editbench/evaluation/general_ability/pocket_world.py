"""What a model knows of the pocket world besides what is edited: general ability, without anything to download.

Asked about are the 120 facts of the 40 ``generic`` subjects, whom no record edits or asks about (they occur in plain
text; SCEN's generic negatives are about them too). Each fact is put in two trained wordings, a statement and a
question, and in its two held-out ones:

==========  ========================================================================================================
recall      share of the trained wordings after which the fact's object is the model's first choice
held_out    the same of the held-out wordings
choice      share of all four in which the object is likelier than each other object of its relation (15 to 17 others)
==========  ========================================================================================================

Shares are taken within a fact, then over facts; the standard error is over facts. A NaN is a wrong answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from editbench.evaluation.general_ability.base import POCKET, Ability
from editbench.model.likelihood import Query, answer
from editbench.pocket import world

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Answer, Answering
    from editbench.pocket.world import Fact


KNOWN = 0.5
"""A model whose recall is less, unedited, does not know the world."""


@dataclass(frozen=True)
class Item:
    """One fact as it is asked: the wordings, the right object, and the other objects of the relation."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]
    right: str
    others: tuple[str, ...]

    @property
    def queries(self) -> list[Query]:
        """One a wording, trained ones first; the right object is the first target."""
        return [Query(prompt, (self.right, *self.others)) for prompt in (*self.trained, *self.held_out)]


def items(facts: Sequence[Fact]) -> list[Item]:
    """The facts as they are asked; trained wordings take turns."""
    return [
        Item(
            trained=(fact.statements[index % 5], fact.questions[index % 2]),
            held_out=(fact.held_out_statement, fact.held_out_question),
            right=fact.object,
            others=tuple(other for other in fact.relation.objects if other != fact.object),
        )
        for index, fact in enumerate(facts)
    ]


class PocketAbility:
    """The test "pocket"; see :class:`~editbench.evaluation.general_ability.base.AbilityTest`."""

    def __init__(self, asked: Sequence[Item] | None = None, tokens_per_batch: int | None = None) -> None:
        """Choose what is asked.

        Args:
            asked: Items; by default those of the ``generic`` subjects.
            tokens_per_batch: As in :func:`~editbench.model.likelihood.answer`.
        """
        subjects = world.build().role("generic")
        self.asked = list(asked or items([fact for subject in subjects for fact in subject.facts]))
        self._tokens_per_batch = tokens_per_batch

    def load(self) -> None:
        """Nothing is needed."""

    def about(self) -> dict[str, Any]:
        """Nothing that the settings do not say."""
        return {}

    def measure(self, lm: LanguageModel, editor: Answering | None = None) -> list[Ability]:
        """Ask all items, in the same batches.

        Raises:
            ValueError: The unedited model does not know the world.
        """
        queries = [query for item in self.asked for query in item.queries]
        answers = iter(answer(lm, queries, editor=editor, tokens_per_batch=self._tokens_per_batch))
        values: dict[str, list[float]] = {"recall": [], "held_out": [], "choice": []}
        for item in self.asked:
            trained, held_out = ([next(answers) for _ in prompts] for prompts in (item.trained, item.held_out))
            values["recall"].append(_share([_says(right) for right, *_ in trained]))
            values["held_out"].append(_share([_says(right) for right, *_ in held_out]))
            values["choice"].append(_share([_chooses(*several) for several in (*trained, *held_out)]))
        found = Ability.of_items(POCKET, values)
        if editor is None and found.scores["recall"] < KNOWN:
            raise ValueError(
                f"the ability test {POCKET!r} asks about the embedded world, of which {lm.name} knows "
                f"{found.scores['recall']:.0%} unedited; for other models name tasks of lm-eval (ability=nse)"
            )
        return [found]


def _says(right: Answer) -> bool:
    return all(right.correct)


def _chooses(right: Answer, *others: Answer) -> bool:
    """Whether the right answer is strictly the likeliest, per token."""
    return all(right.nll < other.nll for other in others)


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)
