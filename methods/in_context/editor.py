"""In-context editing: all facts stand before every prompt, newest last, behind demonstrations if there are any.

Zheng et al., "Can We Edit Factual Knowledge by In-Context Learning?", EMNLP 2023 (IKE). The control of every table: no
weight changes, and nothing is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from editbench.prompt_edits.demonstrations import Demonstration, demonstrations
from editbench.prompt_edits.editor import PromptEditor
from editbench.prompt_edits.embedding import Embed, embedder
from editbench.records import EditRequest

from .config import FIRST, InContextConfig


class InContext(PromptEditor[InContextConfig]):
    """Puts the edits before every prompt, as many of the newest as the model takes."""

    title = "in context"
    paper = "Zheng et al., EMNLP 2023 (arXiv 2305.12740)"
    version = 2
    config_class = InContextConfig

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Read the demonstrations, so that a run without training records is refused at its start."""
        if self.config.demonstrations:
            assert self._shown is not None

    def texts(self, prompt: str) -> Sequence[str]:
        """The facts, newest first, then the demonstrations, nearest first; nothing before the first edit."""
        facts = self.facts()
        if not facts:
            return ()
        return [*(self.fact_text(fact.prompt, fact.target) for fact in reversed(facts)), *self._demonstrated(prompt)]

    def _demonstrated(self, prompt: str) -> list[str]:
        count = self.config.demonstrations
        if not count or self.config.choice == FIRST:
            return [shown.text for shown in self._shown[:count]]
        near = (self._vectors @ self._embed(prompt)).argsort(descending=True, stable=True)
        return [self._shown[i].text for i in near[:count].tolist()]

    @cached_property
    def _shown(self) -> list[Demonstration]:
        """Demonstrations to choose from."""
        count, resources = self.config.demonstrations, self.resources
        if not count:
            return []
        records = resources.training_records
        if len(records) < count:
            raise ValueError(f"method.demonstrations is {count}, but the split train has {len(records)} records")
        return demonstrations(records, resources.prompt_format, self.fact_text, self.config.lead)

    @cached_property
    def _embed(self) -> Embed:
        return embedder(self.lm, self.config)

    @cached_property
    def _vectors(self) -> Tensor:
        """(N, d) vectors of the demonstrations' prompts."""
        return torch.stack([self._embed(shown.prompt) for shown in self._shown])
