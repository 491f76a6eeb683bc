"""Perplexity of texts, each given the text before it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from editbench.evaluation.forward import Query, answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from editbench.evaluation.forward import Answer, Answering
    from editbench.host import Host
    from editbench.records import Passage

VERSION = 1
"""Changes with the formulas; part of the baseline cache's key."""


def text_scores(
    host: Host,
    passages: Sequence[Passage],
    *,
    editor: Answering | None = None,
    max_tokens: int | None = None,
    tokens_per_batch: int | None = None,
) -> dict[str, float]:
    """Perplexity of a set of texts; see :func:`summarise`.

    A passage without a prompt is tokenised as a prompt is and scored from its second token on (a BOS token is the
    first, if the tokenizer adds one).

    Args:
        host: The model.
        passages: Texts, with the text before each.
        editor: Told where prompts end.
        max_tokens: Tokens kept of each text; :func:`default_max_tokens` if None.
        tokens_per_batch: As in :func:`~editbench.evaluation.forward.answer`.
    """
    answers = answer(
        host,
        [Query(p.prompt, (p.text,)) for p in passages],
        editor=editor,
        tokens_per_batch=tokens_per_batch,
        max_target_tokens=max_tokens if max_tokens is not None else default_max_tokens(host),
    )
    return summarise(one for (one,) in answers)


def default_max_tokens(host: Host) -> int:
    """Tokens kept of each text: 512, or all the model takes."""
    return min(512, host.max_length)


def summarise(answers: Iterable[Answer]) -> dict[str, float]:
    """Perplexities of a set of texts from the answers to them.

    Returns:
        ``perplexity``: exp(Σ NLL of all scored tokens / their number), weighted by tokens. ``perplexity_mean``: the
        published variant, the mean over texts of exp(mean NLL). ``texts``: how many have scored tokens. ``tokens``:
        scored tokens. ``nonfinite``: texts whose NLL is NaN or infinite; they stay in both perplexities, which are then
        no number either. Without any scored token both are NaN.
    """
    scored = [one for one in answers if one.tokens]
    tokens = sum(one.tokens for one in scored)
    return {
        "perplexity": _exp(sum(one.nll * one.tokens for one in scored) / tokens) if scored else math.nan,
        "perplexity_mean": sum(_exp(one.nll) for one in scored) / len(scored) if scored else math.nan,
        "texts": len(scored),
        "tokens": tokens,
        "nonfinite": sum(not one.finite for one in scored),
    }


def _exp(value: float) -> float:
    """exp, infinite where a float does not reach."""
    return math.exp(value) if not value > 709 else math.inf
