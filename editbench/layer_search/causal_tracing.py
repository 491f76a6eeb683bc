"""Causal tracing: the layers at which a restored state brings a known answer back.

Meng et al., "Locating and Editing Factual Associations in GPT", NeurIPS 2022, section 2. Gaussian noise on the
embeddings of the subject's tokens makes the model forget the answer; then states of the clean run are restored: a
layer's output, or the MLPs' outputs in a window of layers, at the last token of the subject or of the prompt. With p
of the true answer's first token, the total effect is p(clean) - p(corrupted), the indirect effect of a state
p(corrupted, state restored) - p(corrupted).

All noise samples and as many restorations as fit run together. Hooks restore states, alike for all architectures.
Shape letters: S noise samples, R restorations, T tokens, d hidden size, e width of the token embeddings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from editbench.checks import above_zero, at_least
from editbench.locate_then_edit.prompts import subject_row, subject_span
from editbench.model.batching import PaddedBatch
from editbench.model.devices import in_float64
from editbench.model.hooks import hooked
from editbench.model.partial_forward import run_layers
from editbench.progress import progress
from editbench.records import EditRequest
from editbench.results.schema import DIFFERENCE, SHARE, Estimate
from editbench.results.summary import summarise

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel


HIDDEN, MLP = KINDS = ("hidden", "mlp")
"""Restored states: a layer's output, or the MLPs' outputs in a window of layers."""

SUBJECT, LAST = SITES = ("subject", "last")
"""Restored tokens: the last of the subject, or of the prompt."""

TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 16_384}
"""Rows times columns of a forward pass."""


class NothingToTrace(ValueError):
    """None of the records has a true answer that the model knows."""


@dataclass(frozen=True)
class TraceConfig:
    """Settings of causal tracing."""

    samples: int = 10  # noise samples a record
    noise: float = 3.0  # standard deviation, in standard deviations of the subject tokens' embeddings
    window: int | None = None  # layers whose MLPs are restored together; None: the paper's ten of 48 in proportion
    seed: int = 0  # of the noise, which depends on the seed and the record's id only

    def __post_init__(self) -> None:
        at_least(1, samples=self.samples, window=self.window)
        above_zero(noise=self.noise)


@dataclass(frozen=True)
class Trace:
    """Means over records, each with a 95 % interval."""

    layers: tuple[int, ...]
    window: int
    deviation: float  # standard deviation of the noise, in the embeddings' units
    records: tuple[str, ...]  # ids of the traced records
    left_out: dict[str, str]  # reasons not to trace the others, by id
    clean: Estimate  # p(answer) of the clean run
    corrupted: Estimate  # p(answer) with the subject corrupted
    total: Estimate  # total effect
    indirect: dict[str, tuple[Estimate, ...]]  # indirect effect by "kind.site", one a traced layer


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
    ranges = {name: DIFFERENCE for name in rows[0]["scores"]} | {"clean": SHARE, "corrupted": SHARE}
    summary = summarise([{"stage": "before", "edits": 0, **row} for row in rows], {}, ranges=ranges)["before"]
    assert summary is not None
    found = summary["measures"]
    return Trace(
        layers=at,
        window=window,
        deviation=deviation,
        records=tuple(row["record"] for row in rows),
        left_out=left_out,
        **{name: found[name] for name in ("clean", "corrupted", "total")},
        indirect={f"{k}.{s}": tuple(found[f"{k}.{s}.{n}"] for n in at) for k, s in product(KINDS, SITES)},
    )


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
    return float(in_float64(embeddings).std())


def _unusable(lm: LanguageModel, request: EditRequest) -> str | None:
    if request.subject is None:
        return "the record has no subject"
    if request.target_true is None:
        return "the record has no true answer"
    if lm.unwritable(request.prompt, request.target_true) or lm.unwritable_subject(request.subject):
        return "the model has no tokens for its text"
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
    corrupted, *restored = in_float64(probabilities(lm, prompt, clean, noise, restorations)).mean(1).tolist()
    base = {"clean": clean.probability, "corrupted": corrupted, "total": clean.probability - corrupted}
    pairs = zip(names, restored, strict=True)
    return {**base, **{f"{kind}.{site}.{layer}": p - corrupted for (kind, site, layer), p in pairs}}


def around(layer: int, window: int, n_layers: int) -> range:
    """Up to ``window`` existing layers around ``layer``; of an even number, one more lies before it."""
    return range(max(0, layer - window // 2), min(n_layers, layer + (window + 1) // 2))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt; ``subject`` are indices of its tokens, ``answer`` is the true answer's first token."""

    id: str
    ids: tuple[int, ...]
    subject: tuple[int, ...]
    answer: int

    @classmethod
    def of(cls, lm: LanguageModel, request: EditRequest) -> Prompt:
        """The prompt of a request with a subject and a true answer."""
        assert request.target_true is not None
        row = subject_row(lm, request)
        offsets = lm.encode(request.prompt).offsets
        start, _ = subject_span(request)
        subject = [i for i in range(row.subject + 1) if offsets[i][1] > max(start, offsets[i][0])]
        return cls(
            request.id, row.ids, tuple(subject), lm.continuation(request.target_true, lm.spaced(request.prompt))[0]
        )

    def column(self, site: str) -> int:
        """Index of the site's token."""
        return self.subject[-1] if site == SUBJECT else len(self.ids) - 1


@dataclass(frozen=True, slots=True)
class Clean:
    """The uncorrupted run: p of the answer, the likeliest token, and states (T, d) by kind and layer."""

    probability: float
    argmax: int
    states: dict[tuple[str, int], Tensor]


@dataclass(frozen=True, slots=True)
class Restoration:
    """Clean states to restore: of one kind, at one column, at some layers (none: the run stays corrupted)."""

    kind: str
    column: int
    layers: range


@torch.no_grad()
def clean_run(lm: LanguageModel, prompt: Prompt) -> Clean:
    """Run the prompt without noise and record every state that may be restored."""
    states: dict[tuple[str, int], Tensor] = {}

    def keep(kind: str, layer: int, tensor: Tensor) -> None:
        states[kind, layer] = tensor.reshape(len(prompt.ids), -1).clone()

    with ExitStack() as stack:
        for kind, layer, module in _places(lm):
            stack.enter_context(hooked(module, partial(keep, kind, layer)))
        final = run_layers(lm, _columns(lm, prompt, 1))  # (1, T, d)
    p = lm.logits(final[0, -1]).softmax(-1)
    return Clean(float(p[prompt.answer]), int(p.argmax()), states)


@torch.no_grad()
def probabilities(
    lm: LanguageModel, prompt: Prompt, clean: Clean, noise: Tensor, restorations: Sequence[Restoration]
) -> Tensor:
    """p(answer) of corrupted runs, each with a restoration: (R, S) on the CPU.

    ``noise`` (S, subject tokens, e) is added to the embeddings of the subject's tokens.
    """
    size = max(1, TOKENS_AT_ONCE.get(lm.device.type, TOKENS_AT_ONCE["cuda"]) // (len(noise) * len(prompt.ids)))
    parts = [restorations[i : i + size] for i in range(0, len(restorations), size)]
    return torch.cat([_run_restored(lm, prompt, clean, noise, part) for part in parts])


def _places(lm: LanguageModel) -> Iterator[tuple[str, int, nn.Module]]:
    """Kind, layer and module whose output may be restored."""
    for layer in range(lm.n_layers):
        yield HIDDEN, layer, lm.layers[layer]
        yield MLP, layer, lm.mlp_out(layer)


def _columns(lm: LanguageModel, prompt: Prompt, rows: int) -> PaddedBatch:
    return PaddedBatch.pad([prompt.ids] * rows, [0] * rows, lm.pad_id, lm.device)


def _run_restored(
    lm: LanguageModel, prompt: Prompt, clean: Clean, noise: Tensor, restorations: Sequence[Restoration]
) -> Tensor:
    shape = (len(restorations), len(noise), len(prompt.ids), -1)  # (R, S, T, width)

    def corrupt(embeddings: Tensor) -> Tensor:
        out = embeddings.clone().reshape(shape)
        out[:, :, list(prompt.subject)] += noise
        return out.reshape(embeddings.shape)

    def restore(rows: list[int], state: Tensor, tensor: Tensor) -> Tensor:
        out = tensor.clone().reshape(shape)
        columns = [restorations[row].column for row in rows]
        out[rows, :, columns] = state[columns][:, None]  # (rows, 1, d)
        return out.reshape(tensor.shape)

    with ExitStack() as stack:
        stack.enter_context(hooked(lm.model.get_input_embeddings(), corrupt))
        for kind, layer, module in _places(lm):
            rows = [i for i, r in enumerate(restorations) if r.kind == kind and layer in r.layers]
            if rows:
                stack.enter_context(hooked(module, partial(restore, rows, clean.states[kind, layer])))
        final = run_layers(lm, _columns(lm, prompt, len(restorations) * len(noise)))  # (R·S, T, d)
    p = lm.logits(final[:, -1]).softmax(-1)[:, prompt.answer]
    return p.reshape(shape[:2]).cpu()
