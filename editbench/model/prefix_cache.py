"""Prefixes that rows share (a context template, a common phrase): their keys and values are computed once.

Rows are sorted, neighbours with enough common tokens form a cluster, and the common first tokens of all rows of a
cluster are its prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicLayer

from editbench.model.batching import PaddedBatch, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editbench.model.language_model import LanguageModel


class FixedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of a prefix that never grow; ``read`` says whether the model has used them."""

    def __init__(self, length: int, keys: Tensor | None = None, values: Tensor | None = None) -> None:
        super().__init__()
        self.length = length
        self.read = False
        self.keys, self.values = keys, values
        self.is_initialized = keys is not None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The prefix's keys and values followed by those of the new columns."""
        assert self.keys is not None and self.values is not None
        self.read = True
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)

    def get_seq_length(self) -> int:
        """Columns of the prefix."""
        return self.length


class PrefixCache(Cache):  # type: ignore[misc]
    """Keys and values of the columns left of ``length``, for some of the layers; read only."""

    @classmethod
    def of(cls, cache: Cache) -> PrefixCache:
        """All columns of a recorded ``cache``."""
        length = max(layer.get_seq_length() for layer in cache.layers)
        return cls([FixedLayer(length, layer.keys, layer.values) for layer in cache.layers])

    @classmethod
    def join(cls, parts: Sequence[PrefixCache], rows: Sequence[Sequence[int]], length: int) -> PrefixCache:
        """Prefixes of all rows, in order, from those of some: part p holds ``rows[p]``; all end at ``length``."""
        if len(parts) == 1 and list(rows[0]) == sorted(rows[0]) and parts[0].layers[0].length == length:
            return parts[0]
        order = torch.tensor([i for part in rows for i in part]).argsort()

        def whole(tensors: list[Tensor]) -> Tensor:
            padded = [nn.functional.pad(t, (0, 0, length - t.shape[2], 0)) for t in tensors]
            return torch.cat(padded)[order.to(padded[0].device)]

        layers = [[part.layers[i] for part in parts] for i in range(len(parts[0].layers))]
        return cls([FixedLayer(length, whole([x.keys for x in xs]), whole([x.values for x in xs])) for xs in layers])

    @classmethod
    def gather(cls, cache: Cache, rows: Tensor, columns: Tensor) -> PrefixCache:
        """Row i, column c gets keys and values of row ``rows[i]`` (B,), column ``columns[i, c]`` (B, C), if any."""
        length = columns.shape[1]
        layers = []
        for x in cache.layers:
            if x.get_seq_length():
                at = (rows[:, None].to(x.keys.device), columns.to(x.keys.device))
                layers.append(FixedLayer(length, *(t.transpose(1, 2)[at].transpose(1, 2) for t in (x.keys, x.values))))
            else:
                layers.append(FixedLayer(length))
        return cls(layers)

    def above(self, first: int) -> PrefixCache:
        """This without the layers below ``first``."""
        return PrefixCache([x if i >= first else FixedLayer(x.length) for i, x in enumerate(self.layers)])

    def select(self, rows: Tensor) -> PrefixCache:
        """The prefixes of some rows (:func:`editbench.model.batching.select`)."""
        return PrefixCache([FixedLayer(x.length, select(x.keys, rows), select(x.values, rows)) for x in self.layers])


def recording_cache(lm: LanguageModel, start: PrefixCache | None = None) -> Cache:
    """A cache that keeps every column, even where layers have sliding windows; empty, or beginning with ``start``."""
    layers = [DynamicLayer() for _ in range(lm.n_layers)]
    for layer, fixed in zip(layers, start.layers if start is not None else [], strict=False):
        layer.lazy_initialization(fixed.keys, fixed.values)
        layer.keys, layer.values = fixed.keys, fixed.values
    return Cache(layers=layers)


LEAST_SHARED = 4
"""Common tokens of neighbours in a cluster, at least."""


@dataclass(frozen=True)
class SharedPrefixes:
    """Clusters of rows by their common first tokens."""

    tokens: list[tuple[int, ...]]  # the prefix of each cluster of several rows
    index: list[int]  # of each row's prefix in tokens (0 if it has none)
    lengths: list[int]  # of each row's prefix (0 if it has none)

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> SharedPrefixes:
        """The prefixes of ``rows``, from which tokens that must not be part of a prefix are cut off."""
        members: list[list[int]] = []
        common: list[int] = []
        previous: Sequence[int] = ()
        for i in sorted(range(len(rows)), key=lambda i: tuple(rows[i])):
            count = _count_common(previous, rows[i])
            if members and count >= LEAST_SHARED:
                members[-1].append(i)
                common[-1] = min(common[-1], count)
            else:
                members.append([i])
                common.append(len(rows[i]))
            previous = rows[i]
        tokens: list[tuple[int, ...]] = []
        index, lengths = [0] * len(rows), [0] * len(rows)
        for cluster, length in zip(members, common, strict=True):
            if len(cluster) > 1:
                for i in cluster:
                    index[i], lengths[i] = len(tokens), length
                tokens.append(tuple(rows[cluster[0]][:length]))
        return cls(tokens, index, lengths)

    def batch(self, pad_id: int, device: torch.device) -> PaddedBatch:
        """The prefixes as rows, padded on the right."""
        return PaddedBatch.pad(self.tokens, [0] * len(self.tokens), pad_id, device)


def prefix_columns(taken: Sequence[int], width: int, device: torch.device) -> Tensor:
    """Index of the prefix token in each of ``width`` columns, (B, width): the first ``taken[i]`` tokens, right-aligned.

    Columns left of them are padding and get index 0.
    """
    columns = torch.arange(width, device=device)[None, :]
    return (columns - (width - torch.tensor(taken, device=device)[:, None])).clamp(min=0)


def _count_common(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading tokens that two rows have in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
