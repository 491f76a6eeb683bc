"""Keys: the inputs of the MLP's second projection at the subject's last token, measured on the current weights.

Rows are cut after the subject and run only to the last layer that is needed; prefixes that rows share run once. A
:class:`SubjectPass` remembers the hidden states that enter a layer, so that the next measurement can start there if
only later weights have changed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from editbench.locate_then_edit.prompts import cut_after_subject
from editbench.model.batching import ByRow, PaddedBatch, partition
from editbench.model.hooks import hooked, mlp_only_at
from editbench.model.partial_forward import run_layers
from editbench.model.prefix_cache import PrefixCache, SharedPrefixes, prefix_columns, recording_cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn
    from transformers.cache_utils import Cache

    from editbench.locate_then_edit.prompts import Row
    from editbench.model.language_model import LanguageModel


TOKENS_AT_ONCE = 1 << 14


@dataclass
class Measured:
    """Tensors at the subject's last token, by layer; each (B, features), rows in input order."""

    inputs: dict[int, Tensor] = field(default_factory=dict)
    mlp: dict[int, Tensor] = field(default_factory=dict)
    norm_inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)


@dataclass
class _Part(ByRow):
    """Rows that are run together, and the hidden states (B, T, d) that enter layers, by layer."""

    batch: PaddedBatch
    entering: dict[int, Tensor]

    def start(self, lowest: int) -> tuple[int, Tensor | None]:
        """The highest layer up to ``lowest`` whose input is remembered, and that input."""
        at = max((layer for layer in self.entering if layer <= lowest), default=0)
        return at, self.entering.get(at)

    def remember(self, layer: int, hidden: Tensor) -> None:
        """Keep the input of ``layer`` if it is not kept (a run may have started there), and that of the lowest."""
        lowest = min([*self.entering, layer])
        self.entering = {at: kept for at, kept in self.entering.items() if at in (lowest, layer)}
        self.entering.setdefault(layer, hidden.clone())

    def record(self, lm: LanguageModel, lowest: int, last: int, keep: int | None) -> Cache:
        """Keys and values of the layers up to ``last``, from the one where a run up to ``lowest`` can start."""
        at, hidden = self.start(lowest)
        cache = recording_cache(lm)
        with ExitStack() as stack:
            if keep is not None:
                stack.enter_context(hooked(lm.layers[keep], partial(self.remember, keep), inputs=True))
            run_layers(lm, self.batch, first=at, last=last, hidden=hidden, cache=cache)
        return cache


@dataclass
class _Chunk(_Part):
    """Rows without their prefixes."""

    index: list[int]  # of the rows in the input
    last: Tensor  # (B,) column of each row's last token, counted from the end of the prefixes
    prefix: Tensor  # (B,) index of each row's prefix
    columns: Tensor  # (B, C) index of the prefix token in each of the columns left of the rows' own

    def pick(self, into: dict[int, Tensor], layer: int, tensor: Tensor) -> None:
        """Store ``tensor`` at the subjects' last tokens: of all columns (B·T or B, T; features), or of those alone."""
        whole = tensor.reshape(len(self.index), -1, tensor.shape[-1])
        if whole.shape[1] == 1:
            into[layer] = whole[:, 0]
        else:
            into[layer] = whole[torch.arange(len(self.index), device=whole.device), self.last.to(whole.device)]


@dataclass(frozen=True)
class SubjectPass:
    """Rows cut after the subject, in chunks of similar length, to be measured as often as the weights change."""

    lm: LanguageModel
    chunks: list[_Chunk]
    prefixes: _Part | None  # that rows share

    @classmethod
    def of(cls, lm: LanguageModel, rows: Sequence[Row]) -> SubjectPass:
        """Cut, pad and sort rows whose subject position is known."""
        cut = [cut_after_subject(row) for row in rows]
        shared = SharedPrefixes.of([row.ids[:-1] for row in cut])
        own = [len(row.ids) - length for row, length in zip(cut, shared.lengths, strict=True)]  # behind the prefix
        chunks = []
        for index in partition(own, lm.device, TOKENS_AT_ONCE):
            lengths = [shared.lengths[i] for i in index]
            batch = PaddedBatch.pad([cut[i].ids for i in index], lengths, lm.pad_id, lm.device)
            last = torch.tensor([own[i] - 1 for i in index], device=lm.device)
            prefix = torch.tensor([shared.index[i] for i in index], device=lm.device)
            columns = prefix_columns(lengths, max(lengths), lm.device)
            chunks.append(_Chunk(batch, {}, index, last, prefix, columns))
        return cls(lm, chunks, _Part(shared.batch(lm.pad_id, lm.device), {}) if shared.tokens else None)

    @torch.no_grad()
    def measure(
        self,
        *,
        inputs: Sequence[int] = (),
        mlp: Sequence[int] = (),
        norm_inputs: Sequence[int] = (),
        outputs: Sequence[int] = (),
        keep: int | None = None,
    ) -> Measured:
        """Measure at the subject's last token on the current weights.

        Args:
            inputs: Layers of which to measure the second projection's input, the key (B, d_ff).
            mlp: Layers of which to measure the second projection's output (B, d).
            norm_inputs: Layers of which to measure the input of the norm behind the MLP (B, d).
            outputs: Layers of which to measure the output (B, d).
            keep: Remember the input of this layer: later calls for no layer below it start there. Call :meth:`changed`
                when a weight changes.
        """
        wanted = {"inputs": inputs, "mlp": mlp, "norm_inputs": norm_inputs, "outputs": outputs}
        asked = [layer for layers in wanted.values() for layer in layers]
        last, lowest = max(asked), min([*asked, *([] if keep is None else [keep])])
        cache = self.prefixes.record(self.lm, lowest, last, keep) if self.prefixes else None
        parts: list[Measured] = []
        for chunk in self.chunks:
            at, hidden = chunk.start(lowest)
            size, width = len(chunk.index), chunk.columns.shape[1]
            prefix = PrefixCache.gather(cache, chunk.prefix, chunk.columns) if cache and width else None
            parts.append(Measured())
            with ExitStack() as stack:
                stack.enter_context(mlp_only_at(self.lm, last, size, torch.arange(size), chunk.last))
                for name, layers in wanted.items():
                    for layer in layers:
                        see = partial(chunk.pick, getattr(parts[-1], name), layer)
                        stack.enter_context(hooked(self._module(name, layer), see, inputs=name.endswith("inputs")))
                if keep is not None:
                    stack.enter_context(hooked(self.lm.layers[keep], partial(chunk.remember, keep), inputs=True))
                run_layers(self.lm, chunk.batch, first=at, last=last, hidden=hidden, cache=prefix, start=width)
        order = torch.tensor([i for chunk in self.chunks for i in chunk.index]).argsort()
        measured = Measured()
        for name in wanted:
            for layer in getattr(parts[0], name):
                joined = torch.cat([getattr(part, name)[layer] for part in parts])
                getattr(measured, name)[layer] = joined[order.to(joined.device)]
        return measured

    def changed(self, layer: int) -> None:
        """Forget the inputs of the layers above ``layer``, a weight of which has changed."""
        for part in self._parts():
            part.entering = {at: hidden for at, hidden in part.entering.items() if at <= layer}

    def remembers(self, layer: int) -> bool:
        """Whether a measurement at ``layer`` would start there."""
        return all(layer in part.entering for part in self._parts())

    def select(self, rows: Sequence[int]) -> SubjectPass:
        """This for some of the rows, in the order of ``rows``."""
        place = {row: i for i, row in enumerate(rows)}
        chunks = []
        for chunk in self.chunks:
            kept = [i for i, row in enumerate(chunk.index) if row in place]
            if kept:
                part = chunk.select(torch.tensor(kept))
                chunks.append(replace(part, index=[place[row] for row in part.index]))
        return replace(self, chunks=chunks, prefixes=replace(self.prefixes) if self.prefixes else None)

    def _parts(self) -> list[_Part]:
        return [*self.chunks, *([self.prefixes] if self.prefixes else [])]

    def _module(self, name: str, layer: int) -> nn.Module:
        if name == "norm_inputs":
            norm = self.lm.post_norm(layer)
            assert norm is not None
            return norm.module
        module: nn.Module = self.lm.layers[layer]
        return module if name == "outputs" else self.lm.mlp_out(layer)
