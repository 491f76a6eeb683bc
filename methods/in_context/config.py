"""Settings of in-context editing."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import at_least, one_of
from editbench.prompt_edits.editor import PromptConfig
from editbench.prompt_edits.embedding import EmbeddingConfig
from editbench.search_space import Choice

NEAREST, FIRST = "nearest", "first"


@dataclass
class InContextConfig(EmbeddingConfig, PromptConfig):
    """In-context editing. Fields of the base classes are those of what stands before a prompt, and of its vector.

    Attributes:
        demonstrations: Training records that are shown before the facts; 0 for none.
        choice: The demonstrations whose prompts are "nearest" to the question, nearest last, or the "first" of the
            split.
    """

    demonstrations: int = field(default=0, metadata={"search": Choice((0, 4, 16))})
    choice: str = NEAREST

    def __post_init__(self) -> None:
        PromptConfig.__post_init__(self)
        EmbeddingConfig.__post_init__(self)
        at_least(0, demonstrations=self.demonstrations)
        one_of((NEAREST, FIRST), choice=self.choice)
