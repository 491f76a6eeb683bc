"""Perplexity of texts, each given the text before it."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from editbench.model.likelihood import Query, answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Answer, Answering
    from editbench.records import Passage

VERSION = 3
"""Changes with the formulas; part of the baseline cache's key."""
PERPLEXITIES = ("perplexity", "perplexity_mean", "perplexity_median", "perplexity_clipped")
COUNTS = ("texts", "too_short", "tokens", "nonfinite")
CLIP = 100.0
"""No text counts for more than this in ``perplexity_clipped``."""


def text_scores(
    lm: LanguageModel,
    passages: Sequence[Passage],
    *,
    editor: Answering | None = None,
    max_tokens: int | None = None,
    tokens_per_batch: int | None = None,
) -> dict[str, float]:
    """Perplexity of a set of texts; see :func:`summarise`.

    A passage without a prompt is cut to ``max_tokens`` and scored from its second token on (a BOS token is the first,
    if the tokenizer adds one). Methods whose edits lie beside the weights choose what answers at the end of its first
    half (:func:`~editbench.model.packed_targets.lead_of`).

    Args:
        lm: The model.
        passages: Texts, with the text before each.
        editor: Told where prompts end.
        max_tokens: Tokens kept of each text, prompts aside; :func:`default_max_tokens` if None.
        tokens_per_batch: As in :func:`~editbench.model.likelihood.answer`.
    """
    answers = answer(
        lm,
        [Query(p.prompt, (p.text,)) for p in passages],
        editor=editor,
        tokens_per_batch=tokens_per_batch,
        max_target_tokens=max_tokens if max_tokens is not None else default_max_tokens(lm),
    )
    return summarise(one for (one,) in answers)


def default_max_tokens(lm: LanguageModel) -> int:
    """Tokens kept of each text: 512, or all the model takes."""
    return min(512, lm.max_length)


def summarise(answers: Iterable[Answer]) -> dict[str, float]:
    """Perplexities of a set of texts from the answers to them.

    Returns:
        ``perplexity``: exp(Σ NLL of all scored tokens / their number), weighted by tokens. ``perplexity_mean``: the
        published variant, the mean over texts of exp(mean NLL). One text decides it where a model gives up on a text;
        two robust ones stand beside it: ``perplexity_median``, and ``perplexity_clipped``, the mean of the same with
        no text above :data:`CLIP`, the bound that stands, commented out, in the published function (GRACE, EasyEdit).
        ``texts``: how many have scored tokens, ``too_short``: how many have none. ``tokens``: scored tokens.
        ``nonfinite``: texts whose NLL is NaN or infinite; they stay in all perplexities, which are then no number
        either (median and clipped mean may be one, if none is NaN). ``routed``, for methods whose edits lie beside the
        weights: the share of texts that an edit answers. Without any scored token all are NaN.
    """
    answers = list(answers)
    scored = [one for one in answers if one.tokens]
    tokens = sum(one.tokens for one in scored)
    each = [_exp(one.nll) for one in scored]
    routed = [one.routed for one in scored if one.routed is not None]
    return {
        "perplexity": _exp(sum(one.nll * one.tokens for one in scored) / tokens) if scored else math.nan,
        "perplexity_mean": sum(each) / len(each) if scored else math.nan,
        "perplexity_median": math.nan if not each or any(map(math.isnan, each)) else median(each),
        "perplexity_clipped": sum(min(one, CLIP) for one in each) / len(each) if each else math.nan,  # NaN stays
        "texts": len(scored),
        "too_short": len(answers) - len(scored),
        "tokens": tokens,
        "nonfinite": sum(not one.finite for one in scored),
        **({"routed": sum(routed) / len(routed)} if routed else {}),
    }


def mean_of_three(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float] | None:
    """SCEN's figure: the means of the edited, the accurate and the plain texts' perplexities; None without all three.

    Source: Yao et al. 2024 (SCEN), table on Hallucination.
    """
    if not {"edited", "accurate", "plain"} <= scores.keys():
        return None
    several = [scores[name] for name in ("edited", "accurate", "plain")]
    means = {name: sum(one[name] for one in several) / 3 for name in PERPLEXITIES}
    return {**means, **{name: sum(one[name] for one in several) for name in COUNTS}}


def _exp(value: float) -> float:
    """exp, infinite where a float does not reach."""
    return math.exp(value) if not value > 709 else math.inf
