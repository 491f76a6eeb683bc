"""Perplexity of texts, each given the text before it, and its aggregates over a set of texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from editbench.evaluation.metrics import describe
from editbench.model.likelihood import Answering, Query, TargetScore, score_targets
from editbench.records import Passage
from editbench.results.schema import SHARE

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

VERSION = 3
"""Changes with the formulas; part of the key of the cached answers of the unedited model."""

CLIP = 100.0
"""Largest perplexity of a text in ``perplexity_clipped``."""

_SOURCES = {
    "perplexity": ("perplexity", "exp(Σ NLL / tokens): over all scored tokens together"),
    "perplexity_mean": ("perplexity, mean", "mean over texts of exp(NLL), as published in GRACE and EasyEdit"),
    "perplexity_median": ("perplexity, median", "median over texts of exp(NLL)"),
    "perplexity_clipped": (
        "perplexity, clipped",
        f"mean over texts of min(exp(NLL), {CLIP:g}): the bound in a comment of the published code (GRACE, EasyEdit)",
    ),
}
_COUNTED = {
    "texts": "texts with scored tokens",
    "too_short": "texts without any",
    "tokens": "scored tokens",
    "nonfinite": "texts whose NLL is NaN or infinite",
}
PERPLEXITIES, COUNTS = tuple(_SOURCES), tuple(_COUNTED)

FACTS = {
    **{
        name: describe(title, version=VERSION, source=source, higher_is_better=False)
        for name, (title, source) in _SOURCES.items()
    },
    **{name: describe(name.replace("_", " "), source=counted, digits=0) for name, counted in _COUNTED.items()},
    "routed": describe("answered by an edit", source="share of texts", range=SHARE),
}


def text_scores(
    lm: LanguageModel,
    passages: Sequence[Passage],
    *,
    editor: Answering | None = None,
    max_tokens: int | None = None,
    tokens_per_batch: int | None = None,
) -> dict[str, float]:
    """Perplexity of a set of texts; see :func:`summarise`.

    A passage without a prompt is scored from its second token on (BOS is the first, if the tokenizer adds one). The
    first ``max_tokens`` of each text are kept, prompts aside; None: :func:`default_max_tokens`. An editor that puts
    edits before prompts looks at the whole of a text without a prompt.
    """
    scores = score_targets(
        lm,
        [Query(p.prompt, (p.text,)) for p in passages],
        editor=editor,
        tokens_per_batch=tokens_per_batch,
        max_target_tokens=max_tokens if max_tokens is not None else default_max_tokens(lm),
    )
    unknown = [i for i, (score,) in enumerate(scores) if score.routed is None] if editor is not None else []
    places = [passages[i] for i in unknown]
    found = editor.route([p.prompt or p.text for p in places]) if editor is not None and places else None
    routed = {i: route.id is not None for i, route in zip(unknown, found or (), strict=False)}
    return summarise(replace(score, routed=routed.get(i, score.routed)) for i, (score,) in enumerate(scores))


def default_max_tokens(lm: LanguageModel) -> int:
    """Tokens kept of each text: 512, or as many as the model takes."""
    return min(512, lm.max_length)


def summarise(scores: Iterable[TargetScore]) -> dict[str, float]:
    """The numbers of :data:`FACTS` for a set of texts; perplexities are NaN without any scored token.

    One text can decide ``perplexity_mean``; the median and the clipped mean are robust. A text whose NLL is NaN or
    infinite counts in all perplexities. Only methods whose edits lie beside the weights have ``routed``.
    """
    scores = list(scores)
    scored = [score for score in scores if score.tokens]
    tokens = sum(score.tokens for score in scored)
    each = [_exp(score.nll) for score in scored]
    routed = [score.routed for score in scored if score.routed is not None]
    return {
        "perplexity": _exp(sum(score.nll * score.tokens for score in scored) / tokens) if scored else math.nan,
        "perplexity_mean": sum(each) / len(each) if scored else math.nan,
        "perplexity_median": math.nan if not each or any(map(math.isnan, each)) else median(each),
        "perplexity_clipped": sum(min(value, CLIP) for value in each) / len(each) if each else math.nan,  # NaN stays
        "texts": len(scored),
        "too_short": len(scores) - len(scored),
        "tokens": tokens,
        "nonfinite": sum(not score.finite for score in scored),
        **({"routed": sum(routed) / len(routed)} if routed else {}),
    }


def mean_of_three(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float] | None:
    """Means of the edited, the accurate and the plain texts' perplexities, counts added up; None without all three.

    Source: Yao et al. 2024 (SCEN), table on Hallucination.
    """
    if not {"edited", "accurate", "plain"} <= scores.keys():
        return None
    three = [scores[name] for name in ("edited", "accurate", "plain")]
    means = {name: sum(of_texts[name] for of_texts in three) / 3 for name in PERPLEXITIES}
    return {**means, **{name: sum(of_texts[name] for of_texts in three) for name in COUNTS}}


def _exp(value: float) -> float:
    """exp; infinite beyond the range of a float."""
    return math.exp(value) if not value > 709 else math.inf
