"""Retrieval editing: the facts nearest to a prompt stand before it, if they are near enough.

The control of the methods with a memory beside the model: the same choice of an edit, and the model itself reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from editbench.prompt_edits.editor import PromptEditor
from editbench.prompt_edits.embedding import Embed, embedder
from editbench.records import Route

from .config import RetrievalConfig

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.prompt_edits.facts import Fact


class Retrieval(PromptEditor[RetrievalConfig]):
    """Looks up each prompt among the prompts of the edits."""

    title = "retrieval"
    paper = "a control, as in Mitchell et al., ICML 2022 (arXiv 2206.06520), without its trained networks"
    config_class = RetrievalConfig

    @cached_property
    def _embed(self) -> Embed:
        return embedder(self.lm, self.config)

    def vector(self, prompt: str) -> Tensor:
        """(d,) vector of a plain prompt."""
        return self._embed(prompt)

    def texts(self, prompt: str) -> Sequence[str]:
        """The nearest facts above the threshold, nearest first."""
        near = self._nearest(prompt)
        return [self.fact_text(fact.prompt, fact.target) for fact, value in near if value > self.config.threshold]

    def route(self, prompts: Sequence[str]) -> list[Route]:
        """The fact that stands next to each prompt, and its similarity."""
        return [self._route(self.resources.prompt_format.plain(prompt)) for prompt in prompts]

    def _route(self, prompt: str) -> Route:
        near = self._nearest(prompt)
        if not near:
            return Route(None, 0.0)
        fact, value = near[0]
        return Route(fact.id if value > self.config.threshold else None, value)

    def _nearest(self, prompt: str) -> list[tuple[Fact, float]]:
        """The facts nearest to a plain prompt, nearest first, with their similarities."""
        facts = self.facts()
        if not facts:
            return []
        similarities = self.store.vectors(self.ledger) @ self._embed(prompt)  # (N,)
        values, places = similarities.topk(min(self.config.nearest, len(facts)))
        return [(facts[i], value) for i, value in zip(places.tolist(), values.tolist(), strict=True)]
