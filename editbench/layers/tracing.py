"""Causal tracing: at which layers does a restored state bring a known answer back?

Meng et al., "Locating and Editing Factual Associations in GPT", NeurIPS 2022, section 2. The embeddings of the subject's
tokens are corrupted with Gaussian noise, so that the model forgets the answer; then single states of the clean run are
put back. With p the probability of the true answer's first token, the total effect is p(clean) - p(corrupted), the
indirect effect of a state p(corrupted, state restored) - p(corrupted).

Restored are, at the subject's last token and at the prompt's last token, the hidden state that leaves one layer, or the
outputs of the MLPs in a window of layers around it. All noise samples and as many restorations as fit run together.

Shape letters: S noise samples, R restorations, T tokens, d hidden size, e width of the token embeddings.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from editbench.locate.checks import above_zero, at_least
from editbench.locate.partial import Columns, run, watch
from editbench.locate.rows import subject_row
from editbench.progress import progress
from editbench.results.measures import summarise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from editbench.host import Host
    from editbench.records import EditRequest
    from editbench.results.schema import Measure

HIDDEN, MLP = "hidden", "mlp"
KINDS = (HIDDEN, MLP)
"""What is restored: the hidden state that leaves a layer, or the MLPs' outputs in a window of layers."""
SUBJECT, LAST = "subject", "last"
SITES = (SUBJECT, LAST)
"""Where: at the subject's last token, or at the prompt's."""
TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 16_384}
"""Rows times columns that run together."""


@dataclass(frozen=True)
class TraceSettings:
    """Settings of the tracing.

    Attributes:
        samples: Noise samples a record.
        noise: Standard deviation of the noise, in standard deviations of the subject tokens' embeddings.
        window: Layers whose MLPs are restored together; None takes the paper's ten of 48 in proportion.
        seed: Seed of the noise; a record's noise depends on the seed and its id alone.
    """

    samples: int = 10
    noise: float = 3.0
    window: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, samples=self.samples, window=self.window)
        above_zero(noise=self.noise)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt: token ids, indices of the subject's tokens, id of the true answer's first token."""

    id: str
    ids: tuple[int, ...]
    subject: tuple[int, ...]
    answer: int

    @classmethod
    def of(cls, host: Host, request: EditRequest) -> Prompt:
        """The prompt of a request that has a subject and a true answer."""
        assert request.subject is not None and request.target_true is not None
        row = subject_row(host, request)
        offsets = host.encode(request.prompt).offsets
        start = request.prompt.index(request.subject)
        subject = [i for i in range(row.subject + 1) if offsets[i][1] > max(start, offsets[i][0])]
        return cls(request.id, row.ids, tuple(subject), host.continuation(request.target_true)[0])

    def column(self, site: str) -> int:
        """The token that a site means."""
        return self.subject[-1] if site == SUBJECT else len(self.ids) - 1


@dataclass(frozen=True, slots=True)
class Clean:
    """The uncorrupted run: p of the answer, the likeliest token, and by kind and layer what can be restored (T, d)."""

    probability: float
    argmax: int
    states: dict[tuple[str, int], Tensor]


@dataclass(frozen=True, slots=True)
class Restoration:
    """Clean states to put back: of one kind, at one column, at some layers (none: the run stays corrupted)."""

    kind: str
    column: int
    layers: range


@dataclass(frozen=True)
class Trace:
    """Averages over records, each with a 95 % bootstrap interval over them.

    Attributes:
        layers: Traced layers.
        window: Layers whose MLPs were restored together.
        deviation: Standard deviation of the noise, in the embeddings' units.
        records: Ids of the traced records.
        left_out: Why others were not traced, by id.
        clean: p(answer) of the clean run.
        corrupted: p(answer) with the subject corrupted.
        total: Total effect.
        indirect: Indirect effect by "kind.site", one value a traced layer.
    """

    layers: tuple[int, ...]
    window: int
    deviation: float
    records: tuple[str, ...]
    left_out: dict[str, str]
    clean: Measure
    corrupted: Measure
    total: Measure
    indirect: dict[str, tuple[Measure, ...]]


def trace(
    host: Host,
    requests: Sequence[EditRequest],
    layers: Sequence[int] | None = None,
    settings: TraceSettings | None = None,
) -> Trace:
    """Trace the requests whose true answer the model knows: its first token is the model's likeliest.

    Args:
        host: The unedited model.
        requests: Any; those without subject or true answer, or with one that the model does not know, are left out.
        layers: Layers to restore at; all by default.
        settings: Noise, samples, window.

    Raises:
        ValueError: No request can be traced; the message counts the reasons.
    """
    settings = settings or TraceSettings()
    at = tuple(range(host.n_layers) if layers is None else layers)
    window = settings.window or max(1, round(host.n_layers * 10 / 48))
    left_out = {r.id: reason for r in requests if (reason := _unusable(r)) is not None}
    prompts = [Prompt.of(host, r) for r in requests if r.id not in left_out]
    deviation = settings.noise * embedding_deviation(host, prompts) if prompts else 0.0
    rows: list[dict[str, Any]] = []
    with progress("tracing", len(prompts)) as advance:
        for prompt in prompts:
            clean = clean_run(host, prompt)
            if clean.argmax == prompt.answer:
                noise = deviation * draw_noise(host, prompt, settings)
                effects = _effects(host, prompt, clean, noise, at, window)
                rows.append({"record": prompt.id, "position": len(rows), "status": "scored", "scores": effects})
            else:
                left_out[prompt.id] = "the model does not know the true answer"
            advance()
    if not rows:
        counts = ", ".join(f"{list(left_out.values()).count(why)}: {why}" for why in sorted(set(left_out.values())))
        raise ValueError(f"none of {len(requests)} records can be traced ({counts}); give records that the model knows")
    return _averaged(rows, at, window, deviation, left_out)


@torch.no_grad()
def clean_run(host: Host, prompt: Prompt) -> Clean:
    """Run one prompt as it is, and keep every state that may be restored."""
    states: dict[tuple[str, int], Tensor] = {}

    def keep(kind: str, layer: int, tensor: Tensor) -> None:
        states[kind, layer] = tensor.reshape(len(prompt.ids), -1).clone()

    with ExitStack() as stack:
        for kind, layer, module in _places(host):
            stack.enter_context(watch(module, lambda t, kind=kind, layer=layer: keep(kind, layer, t)))
        final = run(host, _columns(host, prompt, 1))  # (1, T, d)
    p = host.logits(final[0, -1]).softmax(-1)
    return Clean(float(p[prompt.answer]), int(p.argmax()), states)


@torch.no_grad()
def probabilities(
    host: Host, prompt: Prompt, clean: Clean, noise: Tensor, restorations: Sequence[Restoration]
) -> Tensor:
    """p(answer) of corrupted runs with something restored, (R, S) on the CPU.

    Args:
        host: The model.
        prompt: The prompt.
        clean: Its clean run.
        noise: (S, subject tokens, e), added to the embeddings of the subject's tokens.
        restorations: What to put back in each of R runs.
    """
    size = max(1, TOKENS_AT_ONCE.get(host.device.type, TOKENS_AT_ONCE["cuda"]) // (len(noise) * len(prompt.ids)))
    parts = [restorations[i : i + size] for i in range(0, len(restorations), size)]
    return torch.cat([_run_restored(host, prompt, clean, noise, part) for part in parts])


def draw_noise(host: Host, prompt: Prompt, settings: TraceSettings) -> Tensor:
    """Standard normal numbers (S, subject tokens, e), the same for a seed and record id on every machine."""
    digest = hashlib.blake2b(f"{settings.seed}:{prompt.id}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    weight = host.model.get_input_embeddings().weight
    numbers = torch.randn(settings.samples, len(prompt.subject), weight.shape[1], generator=generator)
    return numbers.to(weight)


@torch.no_grad()
def embedding_deviation(host: Host, prompts: Sequence[Prompt]) -> float:
    """Standard deviation of the embeddings of all subjects' tokens, over tokens and dimensions."""
    ids = torch.tensor([prompt.ids[i] for prompt in prompts for i in prompt.subject], device=host.device)
    embeddings: Tensor = host.model.get_input_embeddings()(ids)
    return float(embeddings.double().std())


def _unusable(request: EditRequest) -> str | None:
    if request.subject is None:
        return "the record has no subject"
    return "the record has no true answer" if request.target_true is None else None


def _places(host: Host) -> Iterator[tuple[str, int, nn.Module]]:
    """Kind, layer and module of everything that may be restored: the module's output."""
    for layer in range(host.n_layers):
        yield HIDDEN, layer, host.layers[layer]
        yield MLP, layer, host.mlp_out(layer)


def _columns(host: Host, prompt: Prompt, rows: int) -> Columns:
    return Columns.pad([prompt.ids] * rows, [0] * rows, host.pad_id, host.device)


def _run_restored(
    host: Host, prompt: Prompt, clean: Clean, noise: Tensor, restorations: Sequence[Restoration]
) -> Tensor:
    """One forward pass for all samples of some restorations; (R, S)."""
    shape = (len(restorations), len(noise), len(prompt.ids), -1)  # (R, S, T, width)

    def corrupt(embeddings: Tensor) -> Tensor:
        out = embeddings.clone().reshape(shape)
        out[:, :, list(prompt.subject)] += noise
        return out.reshape(embeddings.shape)

    def restore(tensor: Tensor, rows: list[int], state: Tensor) -> Tensor:
        out = tensor.clone().reshape(shape)
        columns = [restorations[row].column for row in rows]
        out[rows, :, columns] = state[columns][:, None]  # (rows, 1, d)
        return out.reshape(tensor.shape)

    with ExitStack() as stack:
        stack.enter_context(watch(host.model.get_input_embeddings(), corrupt))
        for kind, layer, module in _places(host):
            rows = [i for i, r in enumerate(restorations) if r.kind == kind and layer in r.layers]
            if rows:
                state = clean.states[kind, layer]
                stack.enter_context(watch(module, lambda t, rows=rows, state=state: restore(t, rows, state)))
        final = run(host, _columns(host, prompt, len(restorations) * len(noise)))  # (R·S, T, d)
    p = host.logits(final[:, -1]).softmax(-1)[:, prompt.answer]
    return p.reshape(shape[:2]).cpu()


def _effects(
    host: Host, prompt: Prompt, clean: Clean, noise: Tensor, layers: Sequence[int], window: int
) -> dict[str, float]:
    """One record's numbers by name: "clean", "corrupted", "total", and "kind.site.layer"."""
    names = list(product(KINDS, SITES, layers))
    restorations = [Restoration(HIDDEN, 0, range(0))]
    for kind, site, layer in names:
        wide = around(layer, window, host.n_layers) if kind == MLP else range(layer, layer + 1)
        restorations.append(Restoration(kind, prompt.column(site), wide))
    corrupted, *restored = probabilities(host, prompt, clean, noise, restorations).double().mean(1).tolist()
    base = {"clean": clean.probability, "corrupted": corrupted, "total": clean.probability - corrupted}
    pairs = zip(names, restored, strict=True)
    return {**base, **{f"{kind}.{site}.{layer}": p - corrupted for (kind, site, layer), p in pairs}}


def around(layer: int, window: int, n_layers: int) -> range:
    """The ``window`` layers around ``layer``, those that exist; of an even number, one more lies before it."""
    return range(max(0, layer - window // 2), min(n_layers, layer + (window + 1) // 2))


def _averaged(
    rows: list[dict[str, Any]], layers: tuple[int, ...], window: int, deviation: float, left_out: dict[str, str]
) -> Trace:
    summary = summarise([{"moment": "baseline", "edits": 0, **row} for row in rows], {})["baseline"]
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
