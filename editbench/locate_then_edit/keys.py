"""Keys: the inputs of the MLP's second projection at the subject's last token, measured on the current weights.

Rows are cut after the subject and run only to the last layer that is asked for; what several rows begin with is run
once for all of them. A :class:`SubjectPass` remembers the hidden states that enter a layer, so that the next one
can start there when only later weights have changed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch

from editbench.locate_then_edit.prompts import cut_after_subject
from editbench.model.batching import PaddedBatch, partition
from editbench.model.hooks import hooked, mlp_only_at
from editbench.model.partial_forward import run
from editbench.model.prefix_cache import PrefixCache, SharedPrefixes, place, recording_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn
    from transformers.cache_utils import Cache

    from editbench.locate_then_edit.prompts import Row
    from editbench.model.language_model import LanguageModel


TOKENS_AT_ONCE = 1 << 14


@dataclass
class Seen:
    """What was measured at the subject's last token, by layer; each (B, features), rows in input order."""

    inputs: dict[int, Tensor] = field(default_factory=dict)
    mlp: dict[int, Tensor] = field(default_factory=dict)
    norm_inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)


class SubjectPass:
    """Rows cut after the subject, ready to be measured as often as the weights change."""

    def __init__(self, lm: LanguageModel, rows: Sequence[Row]) -> None:
        """Pad and sort the rows.

        Args:
            lm: The model.
            rows: Rows whose subject position is known.
        """
        self.lm = lm
        cut = [cut_after_subject(row) for row in rows]
        heads = SharedPrefixes.of([row.ids[:-1] for row in cut])
        self._heads = _Heads(heads.columns(lm.pad_id, lm.device)) if heads.tokens else None
        own = [len(row.ids) - shared for row, shared in zip(cut, heads.shared, strict=True)]  # tokens behind the head
        self._chunks: list[_Chunk] = []
        for index in partition(own, lm.device, TOKENS_AT_ONCE):
            shared = [heads.shared[i] for i in index]
            columns = PaddedBatch.pad([cut[i].ids for i in index], shared, lm.pad_id, lm.device)
            last = torch.tensor([own[i] - 1 for i in index], device=lm.device)
            head = torch.tensor([heads.head[i] for i in index], device=lm.device)
            self._chunks.append(_Chunk({}, index, columns, last, head, place(shared, max(shared), lm.device)))

    @torch.no_grad()
    def measure(
        self,
        *,
        inputs: Sequence[int] = (),
        mlp: Sequence[int] = (),
        norm_inputs: Sequence[int] = (),
        outputs: Sequence[int] = (),
        keep: int | None = None,
    ) -> Seen:
        """Measure at the subject's last token on the current weights.

        Args:
            inputs: Layers whose second projection's input (the key) is wanted: (B, d_ff).
            mlp: Layers whose second projection's output is wanted: (B, d).
            norm_inputs: Layers with a norm behind the MLP whose input is wanted: (B, d).
            outputs: Layers whose output is wanted: (B, d).
            keep: Remember what enters this layer; later calls that ask for nothing below it start there. Say
                :meth:`changed` when a weight changes.
        """
        wanted = {"inputs": inputs, "mlp": mlp, "norm_inputs": norm_inputs, "outputs": outputs}
        asked = [layer for at in wanted.values() for layer in at]
        last, lowest = max(asked), min([*asked, *([] if keep is None else [keep])])
        cache = self._heads.run(self.lm, lowest, last, keep) if self._heads else None
        parts: list[Seen] = []
        for chunk in self._chunks:
            at, hidden = chunk.start(lowest)
            prefix = PrefixCache.gather(cache, chunk.head, chunk.place) if cache and chunk.width else None
            parts.append(Seen())
            with ExitStack() as stack:
                size = len(chunk.index)
                stack.enter_context(mlp_only_at(self.lm, last, size, torch.arange(size), chunk.last))
                for module, see, before in self._watchers(chunk, parts[-1], wanted, keep):
                    stack.enter_context(hooked(module, see, inputs=before))
                run(self.lm, chunk.columns, first=at, last=last, hidden=hidden, cache=prefix, start=chunk.width)
        order = torch.tensor([i for chunk in self._chunks for i in chunk.index]).argsort()
        seen = Seen()
        for name in wanted:
            for layer in getattr(parts[0], name):
                joined = torch.cat([getattr(part, name)[layer] for part in parts])
                getattr(seen, name)[layer] = joined[order.to(joined.device)]
        return seen

    def changed(self, layer: int) -> None:
        """A weight of ``layer`` has changed: what is remembered above it is void."""
        for part in self._parts():
            part.entering = {at: hidden for at, hidden in part.entering.items() if at <= layer}

    def remembers(self, layer: int) -> bool:
        """Whether a measurement at ``layer`` would start there."""
        return all(layer in part.entering for part in self._parts())

    def narrow(self, rows: Sequence[int]) -> SubjectPass:
        """A pass over some of the rows, in the order of ``rows``, that takes over what is remembered."""
        other = object.__new__(SubjectPass)
        place = {row: i for i, row in enumerate(rows)}
        chunks = [chunk.narrow(place) for chunk in self._chunks]
        other.lm, other._chunks = self.lm, [chunk for chunk in chunks if chunk.index]
        other._heads = _Heads(self._heads.columns, dict(self._heads.entering)) if self._heads else None
        return other

    def _parts(self) -> list[_Entering]:
        return [*self._chunks, *([self._heads] if self._heads else [])]

    def _watchers(
        self, chunk: _Chunk, seen: Seen, wanted: Mapping[str, Sequence[int]], keep: int | None
    ) -> Iterator[tuple[nn.Module, Callable[[Tensor], None], bool]]:
        """(module, what sees its tensor, whether that is its input)."""
        lm = self.lm
        for name, layers in wanted.items():
            for layer in layers:
                yield (
                    self._module(name, layer),
                    partial(chunk.pick, getattr(seen, name), layer),
                    name.endswith("inputs"),
                )
        if keep is not None:
            yield lm.layers[keep], partial(chunk.remember, keep), True

    def _module(self, name: str, layer: int) -> nn.Module:
        if name == "norm_inputs":
            norm = self.lm.post_norm(layer)
            assert norm is not None
            return norm.module
        module: nn.Module = self.lm.layers[layer]
        return module if name == "outputs" else self.lm.mlp_out(layer)


@dataclass
class _Entering:
    """Remembers what enters layers: by layer, (B, T, d)."""

    entering: dict[int, Tensor]

    def start(self, lowest: int) -> tuple[int, Tensor | None]:
        """The highest layer up to ``lowest`` whose input is remembered, and that input."""
        at = max((layer for layer in self.entering if layer <= lowest), default=0)
        return at, self.entering.get(at)

    def remember(self, layer: int, hidden: Tensor) -> None:
        """Keep what enters ``layer``, unless it is kept; of what was kept before, the lowest layer's stays, too.

        A run that starts at ``layer`` must not change what is kept: ``hidden`` is then only what stands in for it.
        """
        lowest = min([*self.entering, layer])
        self.entering = {at: kept for at, kept in self.entering.items() if at in (lowest, layer)}
        self.entering.setdefault(layer, hidden.clone())


class _Heads(_Entering):
    """What rows begin with."""

    def __init__(self, columns: PaddedBatch, entering: dict[int, Tensor] | None = None) -> None:
        super().__init__(entering or {})
        self.columns = columns

    def run(self, lm: LanguageModel, lowest: int, last: int, keep: int | None) -> Cache:
        """Keys and values of the layers up to ``last``, from the one where rows start on."""
        at, hidden = self.start(lowest)
        cache = recording_cache(lm)
        with ExitStack() as stack:
            if keep is not None:
                stack.enter_context(hooked(lm.layers[keep], partial(self.remember, keep), inputs=True))
            run(lm, self.columns, first=at, last=last, hidden=hidden, cache=cache)
        return cache


@dataclass
class _Chunk(_Entering):
    """Rows that are run together, without their heads."""

    index: list[int]  # the rows' places in the input
    columns: PaddedBatch
    last: Tensor  # (B,) column of each row's last token, counted from the heads' end
    head: Tensor  # (B,) which head each row begins with
    place: Tensor  # (B, C) which of its tokens stands in each of the columns left of the rows' own

    @property
    def width(self) -> int:
        """Columns that the heads take."""
        return self.place.shape[1]

    def pick(self, into: dict[int, Tensor], layer: int, tensor: Tensor) -> None:
        """Store ``tensor`` at the subjects' last tokens: of all columns (B·T or B, T; features), or of those alone."""
        whole = tensor.reshape(len(self.index), -1, tensor.shape[-1])
        if whole.shape[1] == 1:
            into[layer] = whole[:, 0]
        else:
            into[layer] = whole[torch.arange(len(self.index), device=whole.device), self.last.to(whole.device)]

    def narrow(self, place: dict[int, int]) -> _Chunk:
        """Only the rows that have a new place."""
        rows = [i for i, row in enumerate(self.index) if row in place]
        at = torch.tensor(rows, dtype=torch.long, device=self.last.device)
        entering = {layer: hidden[at.to(hidden.device)] for layer, hidden in self.entering.items()}
        index = [place[self.index[i]] for i in rows]
        return _Chunk(entering, index, self.columns.rows(at), self.last[at], self.head[at], self.place[at])
