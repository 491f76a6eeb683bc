"""Keys: the inputs of the MLP's second projection at the subject's last token, measured on the current weights.

Rows are cut after the subject and run only to the last layer that is asked for. A :class:`SubjectPass` remembers the
hidden states that enter a layer, so that the next measurement can start there when only later weights have changed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch

from editbench.locate.partial import Columns, run, watch
from editbench.locate.rows import cut_after_subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editbench.host import Host
    from editbench.locate.rows import Row

TOKENS_AT_ONCE = 1 << 14


@dataclass
class Seen:
    """What was measured at the subject's last token, by layer; each (B, features), rows in input order."""

    inputs: dict[int, Tensor] = field(default_factory=dict)
    mlp: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)


class SubjectPass:
    """Rows cut after the subject, ready to be measured as often as the weights change."""

    def __init__(self, host: Host, rows: Sequence[Row]) -> None:
        """Pad and sort the rows.

        Args:
            host: The model.
            rows: Rows whose subject position is known.
        """
        self.host = host
        cut = [cut_after_subject(row) for row in rows]
        order = sorted(range(len(cut)), key=lambda i: len(cut[i].ids))
        self._chunks: list[_Chunk] = []
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(cut[order[end]].ids) <= TOKENS_AT_ONCE:
                end += 1
            index = order[start:end]
            # Rows end at their subject; padding on the right keeps the plain causal mask.
            columns = Columns.pad([cut[i].ids for i in index], [0] * len(index), host.pad_id, host.device)
            last = torch.tensor([cut[i].subject for i in index], device=host.device)
            self._chunks.append(_Chunk(index, columns, last))
            start = end

    @torch.no_grad()
    def measure(
        self,
        *,
        inputs: Sequence[int] = (),
        mlp: Sequence[int] = (),
        outputs: Sequence[int] = (),
        keep: int | None = None,
    ) -> Seen:
        """Measure at the subject's last token on the current weights.

        Args:
            inputs: Layers whose second projection's input (the key) is wanted: (B, d_ff).
            mlp: Layers whose second projection's output is wanted: (B, d).
            outputs: Layers whose output is wanted: (B, d).
            keep: Remember what enters this layer; later calls that ask for nothing below it start there. Say
                :meth:`changed` when a weight changes.
        """
        parts = [self._measure_chunk(chunk, inputs, mlp, outputs, keep) for chunk in self._chunks]
        order = torch.tensor([i for chunk in self._chunks for i in chunk.index]).argsort()
        seen = Seen()
        for name in ("inputs", "mlp", "outputs"):
            for layer in getattr(parts[0], name):
                joined = torch.cat([getattr(part, name)[layer] for part in parts])
                getattr(seen, name)[layer] = joined[order.to(joined.device)]
        return seen

    def changed(self, layer: int) -> None:
        """A weight of ``layer`` has changed: what is remembered above it is void."""
        for chunk in self._chunks:
            chunk.entering = {at: hidden for at, hidden in chunk.entering.items() if at <= layer}

    def remembers(self, layer: int) -> bool:
        """Whether a measurement at ``layer`` would start there."""
        return all(layer in chunk.entering for chunk in self._chunks)

    def narrow(self, rows: Sequence[int]) -> SubjectPass:
        """A pass over some of the rows, in the order of ``rows``, that takes over what is remembered."""
        other = object.__new__(SubjectPass)
        place = {row: i for i, row in enumerate(rows)}
        chunks = [chunk.narrow(place) for chunk in self._chunks]
        other.host, other._chunks = self.host, [chunk for chunk in chunks if chunk.index]
        return other

    def _measure_chunk(
        self, chunk: _Chunk, inputs: Sequence[int], mlp: Sequence[int], outputs: Sequence[int], keep: int | None
    ) -> Seen:
        host, seen = self.host, Seen()
        at, hidden = chunk.start(min([*inputs, *mlp, *outputs, *([] if keep is None else [keep])]))
        with ExitStack() as stack:
            for layer in inputs:
                see = partial(chunk.pick, seen.inputs, layer)
                stack.enter_context(watch(host.mlp_out(layer), see, inputs=True))
            for layer in mlp:
                stack.enter_context(watch(host.mlp_out(layer), partial(chunk.pick, seen.mlp, layer)))
            for layer in outputs:
                stack.enter_context(watch(host.layers[layer], partial(chunk.pick, seen.outputs, layer)))
            if keep is not None:
                stack.enter_context(watch(host.layers[keep], partial(chunk.remember, keep), inputs=True))
            run(host, chunk.columns, first=at, last=max([*inputs, *mlp, *outputs]), hidden=hidden)
        return seen


@dataclass
class _Chunk:
    index: list[int]  # the rows' places in the input
    columns: Columns
    last: Tensor  # (B,) column of each row's last token
    entering: dict[int, Tensor] = field(default_factory=dict)  # by layer, (B, T, d): what enters it

    def start(self, lowest: int) -> tuple[int, Tensor | None]:
        """The highest layer up to ``lowest`` whose input is remembered, and that input."""
        at = max((layer for layer in self.entering if layer <= lowest), default=0)
        return at, self.entering.get(at)

    def pick(self, into: dict[int, Tensor], layer: int, tensor: Tensor) -> None:
        """Store ``tensor`` (B·T or B, T; features) at the subjects' last tokens."""
        whole = tensor.reshape(len(self.index), -1, tensor.shape[-1])
        into[layer] = whole[torch.arange(len(self.index), device=whole.device), self.last.to(whole.device)]

    def remember(self, layer: int, hidden: Tensor) -> None:
        """Keep what enters ``layer``; of what was kept before, only the lowest layer's stays."""
        lowest = min([*self.entering, layer])
        self.entering = {at: kept for at, kept in self.entering.items() if at == lowest}
        self.entering.setdefault(layer, hidden.clone())

    def narrow(self, place: dict[int, int]) -> _Chunk:
        rows = [i for i, row in enumerate(self.index) if row in place]
        at = torch.tensor(rows, dtype=torch.long, device=self.last.device)
        return _Chunk(
            [place[self.index[i]] for i in rows],
            self.columns.rows(at),
            self.last[at],
            {layer: hidden[at.to(hidden.device)] for layer, hidden in self.entering.items()},
        )
