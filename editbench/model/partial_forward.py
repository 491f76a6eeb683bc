"""Partial forward passes: some of the layers, or only the columns from one on.

The model's own forward does the work, with its masks, rotary tables, norms and scalings, so that every architecture is
handled the same way. Layers outside the range are replaced for the duration by one that passes its input on; hidden
states can be put in place of the input of the first layer; keys and values left of a column can be given.
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
        last: Last layer to run; the model's last by default.
        hidden: (B, T - start, d), the input of layer ``first``; needed when ``first`` > 0.
        cache: Keys and values of the columns before ``start`` (:class:`~editbench.model.prefix_cache.PrefixCache`),
            or an empty recording cache.
        start: First column to compute.

    Returns:
        Final hidden states (B, T - start, d), after the model's last norm. Meaningless when ``last`` cuts layers off:
        read those with hooks.
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
    """Every layer that ran read its prefix, or has recorded all columns.

    Otherwise the model takes its cache in a way that is not known here, and has run without.
    """
    for i in range(first, last + 1):
        layer = cache.layers[i]
        used = layer.read if isinstance(layer, FixedLayer) else layer.get_seq_length() == columns
        assert used, f"layer {i} did not use the cache that it was given"


class _Skip(nn.Module):
    """In the place of a layer that is not run: passes its input on. Other attributes are the layer's own."""

    def __init__(self, layer: nn.Module, in_tuple: bool) -> None:
        super().__init__()
        self.__dict__["_replaced"] = layer
        self.__dict__["_in_tuple"] = in_tuple

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_replaced"], name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor]:
        return (hidden_states,) if self.__dict__["_in_tuple"] else hidden_states


class _CountDimensions(_Skip):
    """Passes its input on with one dimension more, and notes how many its input had."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.__dict__["dimensions"] = hidden_states.dim()
        return hidden_states.reshape(1, 1, 1, -1)


_IN_TUPLE: dict[type, bool] = {}


@torch.no_grad()
def _in_tuple(lm: LanguageModel) -> bool:
    """Whether the model takes its layers' output out of a tuple (GPT-J does), tried once on one token, without layers.

    If it does, the dimension that the first stand-in added is gone at the second.
    """
    layers, original = lm.layers, list(lm.layers)
    kind = type(original[0])
    if kind not in _IN_TUPLE and len(original) > 1:
        stand_ins = [_CountDimensions(layer, False) for layer in original]
        try:
            for i, stand_in in enumerate(stand_ins):
                layers[i] = stand_in
            token = torch.zeros((1, 1), dtype=torch.long, device=lm.device)
            lm.hidden(token, torch.ones_like(token), token)
        finally:
            for i, layer in enumerate(original):
                layers[i] = layer
        _IN_TUPLE[kind] = stand_ins[1].__dict__["dimensions"] == 3
    return _IN_TUPLE.get(kind, False)


@contextmanager
def _only_layers(lm: LanguageModel, first: int, last: int, hidden: Tensor | None) -> Iterator[None]:
    layers = lm.layers
    original = list(layers)
    in_tuple = _in_tuple(lm)
    handle = None
    try:
        for i, layer in enumerate(original):
            if not first <= i <= last:
                layers[i] = _Skip(layer, in_tuple)
        if hidden is not None:
            handle = layers[min(first, len(original) - 1)].register_forward_pre_hook(
                lambda module, args, kwargs: ((hidden, *args[1:]), kwargs), with_kwargs=True
            )
        yield
    finally:
        if handle is not None:
            handle.remove()
        for i, layer in enumerate(original):
            layers[i] = layer


@contextmanager
def _blank_padding(lm: LanguageModel, visible: Tensor, first: int, last: int) -> Iterator[None]:
    """In float64, keep padding in front of rows at zero from layer to layer.

    A padding token that attends to nothing gets the softmax of numbers that are all -1.8e308; attention in float32
    makes NaN of it, which the next layer spreads to all tokens.
    """
    if lm.model.dtype != torch.float64 or bool(visible.all()):
        yield
        return
    padding = visible[..., None] == 0  # (B, T, 1)
    with ExitStack() as stack:
        for layer in lm.layers[first : last + 1]:
            stack.enter_context(hooked(layer, lambda t: t.masked_fill(padding.to(t.device), 0), inputs=True))
        yield
