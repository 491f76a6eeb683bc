"""Forward passes with a corrupted subject and restored states, for causal tracing.

All noise samples and as many restorations as fit run together. Hooks restore states, alike for all architectures.

Shape letters: S noise samples, R restorations, T tokens, d hidden size, e width of the token embeddings.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from editbench.locate_then_edit.prompts import subject_row, subject_span
from editbench.model.batching import PaddedBatch
from editbench.model.hooks import hooked
from editbench.model.partial_forward import run_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from editbench.model.language_model import LanguageModel
    from editbench.records import EditRequest


HIDDEN, MLP = KINDS = ("hidden", "mlp")
"""Restored states: a layer's output, or the MLPs' outputs in a window of layers."""

SUBJECT, LAST = SITES = ("subject", "last")
"""Restored tokens: the last of the subject, or of the prompt."""

TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 16_384}
"""Rows times columns of a forward pass."""


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
        return cls(request.id, row.ids, tuple(subject), lm.continuation(request.target_true)[0])

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
    """(R, S) of all samples, in one forward pass."""
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
