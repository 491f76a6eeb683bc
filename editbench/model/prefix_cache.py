"""Keys and values of prefixes, computed once for passes over what follows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from editbench.model.batching import select

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.model.tree_attention import KeysAndValues


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
    def at(cls, recorded: KeysAndValues, paths: Sequence[Sequence[int]], n_layers: int) -> PrefixCache | None:
        """Row i gets keys and values of the tokens ``paths[i]``, right-aligned; None if no row has any."""
        length = max(map(len, paths))
        if not length:
            return None
        index = torch.tensor([[0] * (length - len(path)) + list(path) for path in paths])  # (B, C)
        layers = []
        for i in range(n_layers):
            here = recorded.get(i)
            if here is None:
                layers.append(FixedLayer(length))
            else:
                layers.append(FixedLayer(length, *(t[index.to(t.device)].transpose(1, 2) for t in here)))
        return cls(layers)

    @property
    def length(self) -> int:
        """Columns of the prefixes."""
        return int(self.layers[0].length)

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
