"""Causal tracing: the layers at which a restored state brings a known answer back.

Meng et al., "Locating and Editing Factual Associations in GPT", NeurIPS 2022, section 2. Gaussian noise on the
embeddings of the subject's tokens makes the model forget the answer; then states of the clean run are restored: a
layer's output, or the MLPs' outputs in a window of layers, at the last token of the subject or of the prompt. With p
of the true answer's first token, the total effect is p(clean) - p(corrupted), the indirect effect of a state
p(corrupted, state restored) - p(corrupted). Shape letters: S noise samples, e width of the token embeddings.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.checks import above_zero, at_least
from editbench.layer_search.restored_runs import (
    HIDDEN,
    KINDS,
    MLP,
    SITES,
    Clean,
    Prompt,
    Restoration,
    clean_run,
    probabilities,
)
from editbench.progress import progress
from editbench.results.schema import DIFFERENCE, SHARE, Estimate
from editbench.results.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.model.language_model import LanguageModel
    from editbench.records import EditRequest


class NothingToTrace(ValueError):
    """None of the records has a true answer that the model knows."""


@dataclass(frozen=True)
class TraceConfig:
    """Settings of causal tracing.

    Attributes:
        samples: Noise samples a record.
        noise: Standard deviation of the noise, in standard deviations of the subject tokens' embeddings.
        window: Layers whose MLPs are restored together; None takes the paper's ten of 48 in proportion.
        seed: Seed of the noise, which depends on the seed and the record's id only.
    """

    samples: int = 10
    noise: float = 3.0
    window: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, samples=self.samples, window=self.window)
        above_zero(noise=self.noise)


@dataclass(frozen=True)
class Trace:
    """Means over records, each with a 95 % interval.

    Attributes:
        deviation: Standard deviation of the noise, in the embeddings' units.
        records: Ids of the traced records.
        left_out: Reasons not to trace the others, by id.
        clean: p(answer) of the clean run.
        corrupted: p(answer) with the subject corrupted.
        indirect: Indirect effect by "kind.site", one a traced layer.
    """

    layers: tuple[int, ...]
    window: int
    deviation: float
    records: tuple[str, ...]
    left_out: dict[str, str]
    clean: Estimate
    corrupted: Estimate
    total: Estimate
    indirect: dict[str, tuple[Estimate, ...]]


def trace(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    layers: Sequence[int] | None = None,
    settings: TraceConfig | None = None,
) -> Trace:
    """Trace at ``layers``, or all, the requests whose true answer's first token is the model's first choice."""
    settings = settings or TraceConfig()
    at = tuple(range(lm.n_layers) if layers is None else layers)
    window = settings.window or max(1, round(lm.n_layers * 10 / 48))
    left_out = {r.id: reason for r in requests if (reason := _unusable(lm, r)) is not None}
    prompts = [Prompt.of(lm, r) for r in requests if r.id not in left_out]
    deviation = settings.noise * embedding_deviation(lm, prompts) if prompts else 0.0
    rows: list[dict[str, Any]] = []
    with progress("tracing", len(prompts)) as advance:
        for prompt in prompts:
            clean = clean_run(lm, prompt)
            if clean.argmax == prompt.answer:
                noise = deviation * draw_noise(lm, prompt, settings)
                effects = _effects(lm, prompt, clean, noise, at, window)
                rows.append({"record": prompt.id, "position": len(rows), "status": "scored", "scores": effects})
            else:
                left_out[prompt.id] = "the model does not know the true answer"
            advance()
    if not rows:
        counts = ", ".join(f"{list(left_out.values()).count(why)}: {why}" for why in sorted(set(left_out.values())))
        raise NothingToTrace(
            f"none of {len(requests)} records can be traced ({counts}); give records whose true answer the model knows"
        )
    return _averaged(rows, at, window, deviation, left_out)


def draw_noise(lm: LanguageModel, prompt: Prompt, settings: TraceConfig) -> Tensor:
    """Standard normal numbers (S, subject tokens, e), equal for a seed and record id on every machine."""
    digest = hashlib.blake2b(f"{settings.seed}:{prompt.id}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    weight = lm.model.get_input_embeddings().weight
    numbers = torch.randn(settings.samples, len(prompt.subject), weight.shape[1], generator=generator)
    return numbers.to(weight)


@torch.no_grad()
def embedding_deviation(lm: LanguageModel, prompts: Sequence[Prompt]) -> float:
    """Standard deviation of the embeddings of all subjects' tokens, over tokens and dimensions."""
    ids = torch.tensor([prompt.ids[i] for prompt in prompts for i in prompt.subject], device=lm.device)
    embeddings: Tensor = lm.model.get_input_embeddings()(ids)
    return float(embeddings.double().std())


def _unusable(lm: LanguageModel, request: EditRequest) -> str | None:
    if request.subject is None:
        return "the record has no subject"
    if request.target_true is None:
        return "the record has no true answer"
    return None if lm.too_long(request.prompt) is None else "the prompt is too long for the model"


def _effects(
    lm: LanguageModel, prompt: Prompt, clean: Clean, noise: Tensor, layers: Sequence[int], window: int
) -> dict[str, float]:
    """Effects of a record by name: "clean", "corrupted", "total", and "kind.site.layer"."""
    names = list(product(KINDS, SITES, layers))
    restorations = [Restoration(HIDDEN, 0, range(0))]
    for kind, site, layer in names:
        wide = around(layer, window, lm.n_layers) if kind == MLP else range(layer, layer + 1)
        restorations.append(Restoration(kind, prompt.column(site), wide))
    corrupted, *restored = probabilities(lm, prompt, clean, noise, restorations).double().mean(1).tolist()
    base = {"clean": clean.probability, "corrupted": corrupted, "total": clean.probability - corrupted}
    pairs = zip(names, restored, strict=True)
    return {**base, **{f"{kind}.{site}.{layer}": p - corrupted for (kind, site, layer), p in pairs}}


def around(layer: int, window: int, n_layers: int) -> range:
    """Up to ``window`` existing layers around ``layer``; of an even number, one more lies before it."""
    return range(max(0, layer - window // 2), min(n_layers, layer + (window + 1) // 2))


def _averaged(
    rows: list[dict[str, Any]], layers: tuple[int, ...], window: int, deviation: float, left_out: dict[str, str]
) -> Trace:
    ranges = {name: DIFFERENCE for name in rows[0]["scores"]} | {"clean": SHARE, "corrupted": SHARE}
    summary = summarise([{"stage": "before", "edits": 0, **row} for row in rows], {}, ranges=ranges)["before"]
    assert summary is not None
    found = summary["measures"]
    return Trace(
        layers=layers,
        window=window,
        deviation=deviation,
        records=tuple(row["record"] for row in rows),
        left_out=left_out,
        clean=found["clean"],
        corrupted=found["corrupted"],
        total=found["total"],
        indirect={f"{k}.{s}": tuple(found[f"{k}.{s}.{n}"] for n in layers) for k, s in product(KINDS, SITES)},
    )
