"""A judge that runs here: a model of its own beside the edited one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from editbench.config import ModelConfig
from editbench.model import generation
from editbench.model.chat_template import chat_format
from editbench.model.language_model import load_model
from editbench.records import PromptFormat

if TYPE_CHECKING:
    from editbench.protocol_parts import JudgeConfig

_log = logging.getLogger(__name__)
TOGETHER = 32
"""Prompts whose replies are generated and kept together: those that a stop can lose."""


class LocalJudge:
    """Puts prompts to a model, by its chat template if its tokenizer has one."""

    def __init__(self, settings: JudgeConfig) -> None:
        """Load the model; errors are those of loading any model."""
        own: Any = {"dtype": settings.dtype, "device": settings.device, "revision": settings.revision}
        try:
            self._lm = load_model(ModelConfig(path=str(settings.model), **own))
        except (ValueError, OSError) as error:
            raise ValueError(f"the judge cannot be loaded (protocol.judge.model): {error}") from error
        self._max_tokens = settings.max_tokens
        self._warned = False  # of questions that are too long
        has_template = bool(getattr(self._lm.tokenizer, "chat_template", None))
        self._format = chat_format(self._lm.tokenizer) if has_template else PromptFormat()

    @property
    def identity(self) -> list[Any]:
        """All that decides a reply besides the prompt."""
        form = [self._format.prefix, self._format.suffix, sorted(self._lm.end_ids)]
        return ["model", self._lm.fingerprint, self._lm.numerics, self._max_tokens, form, generation.VERSION]

    def replies(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Index and reply of each prompt, greedily generated; an empty reply to one that is too long for the model."""
        texts = [self._format.apply(prompt) for prompt in prompts]
        fits = [len(self._lm.encode(text).ids) + self._max_tokens <= self._lm.max_length for text in texts]
        if not all(fits) and not self._warned:
            self._warned = True
            _log.warning("questions are too long for the judge, which takes %d tokens: no verdict", self._lm.max_length)
        yield from ((at, "") for at, fit in enumerate(fits) if not fit)
        asked = [at for at, fit in enumerate(fits) if fit]
        for start in range(0, len(asked), TOGETHER):
            some = asked[start : start + TOGETHER]
            found = generation.generate(self._lm, [texts[at] for at in some], [self._max_tokens] * len(some))
            yield from ((at, one.text) for at, one in zip(some, found, strict=True))
