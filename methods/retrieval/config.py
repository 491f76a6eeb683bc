"""Settings of retrieval editing."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import at_least
from editbench.prompt_edits.editor import PromptConfig
from editbench.prompt_edits.embedding import EmbeddingConfig
from editbench.search_space import Range


@dataclass
class RetrievalConfig(EmbeddingConfig, PromptConfig):
    """Retrieval editing. Fields of the base classes are those of what stands before a prompt, and of its vector.

    Attributes:
        threshold: Cosine similarity above which a fact stands before the prompt.
        nearest: Facts before the prompt, at most; the nearest stands last.
    """

    threshold: float = field(default=0.8, metadata={"search": Range(0.3, 0.999)})
    nearest: int = 1

    def __post_init__(self) -> None:
        PromptConfig.__post_init__(self)
        EmbeddingConfig.__post_init__(self)
        at_least(1, nearest=self.nearest)
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; a cosine similarity is from -1 to 1")
