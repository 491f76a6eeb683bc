"""Test of general ability on facts of the run's own dataset that no edit touches, and that the unedited model knows.

The facts are prompts and true answers of the split on which settings are tuned (:mod:`editbench.datasets.splits`), and
no stream edits their subjects. Asked are those to which the unedited model gives the true answer, every token the
argmax, so that its recall is 1; ``recall`` is the share that the edited model still answers. NaN is a wrong answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from editbench.evaluation.general_ability import KNOWN, Ability, AbilityTest
from editbench.model.likelihood import Answering, Query, score_targets

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

MIN_KNOWN = 5
"""An unedited model that knows fewer facts is not tested by them."""

Fact = tuple[str, str]
"""Prompt and true answer."""


class KnownFacts(AbilityTest):
    """The test "known"; ``read`` gives the facts."""

    def __init__(self, read: Callable[[], Sequence[Fact]], tokens_per_batch: int | None = None) -> None:
        self._read, self._tokens_per_batch = read, tokens_per_batch
        self._facts: list[Fact] = []
        self.known: list[Fact] | None = None

    def load(self) -> None:
        """Read the facts."""
        self._facts = list(self._read())

    def learn(self, lm: LanguageModel) -> None:
        """Keep the facts that the unedited model knows; too few are a ValueError."""
        facts = [fact for fact in self._facts if lm.unaskable(*fact) is None]
        right = self._right(lm, facts, None)
        self.known = [fact for fact, is_right in zip(facts, right, strict=True) if is_right]
        if len(self.known) < MIN_KNOWN:
            raise ValueError(
                f"the ability test {KNOWN!r} asks what {lm.name} knows unedited: {len(self.known)} of "
                f"{len(self._facts)} facts that no stream edits: too few; leave it out of protocol.ability.tasks"
            )

    def measure(self, lm: LanguageModel, editor: Answering | None = None) -> list[Ability]:
        """Ask the known facts."""
        assert self.known is not None, "learn() comes first"
        return [Ability.of_items(KNOWN, {"recall": self._right(lm, self.known, editor)})]

    def about(self) -> dict[str, Any]:
        """Digest of the facts."""
        return {"known_facts": hashlib.sha256(json.dumps(self._facts).encode()).hexdigest()}

    def _right(self, lm: LanguageModel, facts: Sequence[Fact], editor: Answering | None) -> list[float]:
        queries = [Query(prompt, (answer,)) for prompt, answer in facts]
        scores = score_targets(lm, queries, editor=editor, tokens_per_batch=self._tokens_per_batch)
        return [float(all(score.correct)) for (score,) in scores]
