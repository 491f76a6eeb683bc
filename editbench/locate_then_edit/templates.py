"""Context templates: "{}" and short sentences before it that the model samples, so that a value holds behind them.

The published code samples them without a seed, once per process; here model, tokenizer and seed decide them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from editbench.locate_then_edit.prompts import BARE
from editbench.model.devices import seeded

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel


VERSION = 2
"""Changes with the templates that are generated from the same model and seed."""

MEMIT_STARTS = ("The", "Therefore", "Because", "I", "You")
"""First words of MEMIT's and NSE's templates."""


def check_templates(templates: Sequence[str]) -> list[str]:
    """The user's templates, the bare one first; a ValueError unless each has one "{}"."""
    for template in templates:
        if template.count(BARE) != 1:
            raise ValueError(f'context template {template!r} must contain "{{}}" exactly once')
    return [BARE, *(t for t in templates if t != BARE)]


def templates_for(
    lm: LanguageModel, given: Sequence[str] | None, plan: Sequence[tuple[str, int, int]], seed: int
) -> list[str]:
    """The templates that the user gave, checked, or generated ones."""
    return check_templates(given) if given is not None else generate_templates(lm, plan, seed)


def generate_templates(lm: LanguageModel, plan: Sequence[tuple[str, int, int]], seed: int, top_k: int = 5) -> list[str]:
    """The bare "{}" and, for each (start, tokens, count) of ``plan``, ``count`` sampled sentences followed by ". {}".

    The same seed gives the same templates on the same machine. A start "" is BOS alone.
    """
    templates = [BARE]
    with seeded(lm.model, seed):
        for start, tokens, count in plan:
            for text in _sample(lm, start, tokens, count, top_k):
                templates.append(f"{_clean(text)}. {BARE}")
    return templates


@torch.no_grad()
def _sample(lm: LanguageModel, start: str, tokens: int, count: int, top_k: int) -> list[str]:
    tokenizer = lm.tokenizer
    ids = lm.encode(start).ids if start else []
    if not ids:
        bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        ids = [bos if bos is not None else lm.pad_id]
    inputs = torch.tensor([ids] * count, device=lm.device)
    special = sorted(int(i) for i in tokenizer.all_special_ids) or None
    length = {"min_new_tokens": tokens, "max_new_tokens": tokens}
    with lm.generation_settings(do_sample=True, top_k=top_k, suppress_tokens=special, **length):
        out = lm.model.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs))
    own = out if start else out[:, len(ids) :]  # whole: a decoder may drop the space before the first token it sees
    return [str(text) for text in tokenizer.batch_decode(own, skip_special_tokens=True)]


def _clean(text: str) -> str:
    """The text on one line, without braces, which mark the prompt."""
    return " ".join(text.replace("{", " ").replace("}", " ").split()).rstrip(".")
