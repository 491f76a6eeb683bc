"""Partial forward passes: some of the layers, or only the columns from one on.

The model's own forward runs them, with its masks, rotary tables, norms and scalings, so that no architecture is a
special case. Layers outside the range pass their input on meanwhile.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from editbench.model.hooks import hooked
from editbench.model.prefix_cache import FixedLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from transformers.cache_utils import Cache

    from editbench.model.batching import PaddedBatch
    from editbench.model.language_model import LanguageModel


def run_layers(
    lm: LanguageModel,
    batch: PaddedBatch,
    *,
    first: int = 0,
    last: int | None = None,
    hidden: Tensor | None = None,
    cache: Cache | None = None,
    start: int = 0,
) -> Tensor:
    """Run decoder layers ``first`` to ``last`` (inclusive) on the columns from ``start`` on.

    Args:
        first: First layer to run; ``n_layers`` runs none, only the final norm.
        last: Last layer to run; None for the model's last.
        hidden: (B, T - start, d), the input of layer ``first``; needed when ``first`` > 0.
        cache: Keys and values of the columns before ``start`` (:class:`~editbench.model.prefix_cache.PrefixCache`),
            or an empty recording cache.

    Returns:
        Final hidden states (B, T - start, d), after the model's last norm. Where ``last`` cuts layers off, they mean
        nothing: read the layers with hooks.
    """
    assert hidden is not None or first == 0
    last = lm.n_layers - 1 if last is None else last
    visible = batch.mask.cummax(1).values  # padding behind a row attends to its tokens, and no token to padding
    with _only_layers(lm, first, last, hidden), _blank_padding(lm, visible[:, start:], first, last):
        out = lm.hidden(batch.ids[:, start:], visible, batch.positions[:, start:], cache)
    if cache is not None:
        _check_used(cache, first, last, visible.shape[1])
    return out


def _check_used(cache: Cache, first: int, last: int, columns: int) -> None:
    """Assert that every layer that ran read its prefix, or recorded all columns: that the model used the cache."""
    for i in range(first, last + 1):
        layer = cache.layers[i]
        used = layer.read if isinstance(layer, FixedLayer) else layer.get_seq_length() == columns
        assert used, f"layer {i} did not use the cache that it was given"


class _Skip(nn.Module):
    """In the place of a layer that is not run: passes its input on. Other attributes are the layer's own."""

    def __init__(self, layer: nn.Module, in_tuple: bool) -> None:
        super().__init__()
        vars(self).update(replaced=layer, in_tuple=in_tuple)  # the layer is no submodule

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["replaced"], name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor]:
        return (hidden_states,) if self.in_tuple else hidden_states


@contextmanager
def _only_layers(lm: LanguageModel, first: int, last: int, hidden: Tensor | None) -> Iterator[None]:
    """Within the block, other layers pass their input on, and ``hidden`` (if any) is the input of layer ``first``."""
    layers, original, in_tuple = lm.layers, list(lm.layers), lm.layers_return_tuples
    try:
        for i, layer in enumerate(original):
            if not first <= i <= last:
                layers[i] = _Skip(layer, in_tuple)
        with hooked(layers[min(first, len(original) - 1)], lambda tensor: hidden, inputs=True):
            yield
    finally:
        for i, layer in enumerate(original):
            layers[i] = layer


@contextmanager
def _blank_padding(lm: LanguageModel, visible: Tensor, first: int, last: int) -> Iterator[None]:
    """In float64, set padding in front of rows to zero before each layer.

    It attends to nothing: where attention runs in float32 the softmax of -1.8e308 alone is NaN, which would spread.
    """
    if lm.model.dtype != torch.float64 or bool(visible.all()):
        yield
        return
    padding = visible[..., None] == 0  # (B, T, 1)
    with ExitStack() as stack:
        for layer in lm.layers[first : last + 1]:
            stack.enter_context(hooked(layer, lambda t: t.masked_fill(padding.to(t.device), 0), inputs=True))
        yield
