"""Partial forward passes: some of the layers, or only the columns from one on, over padded rows or a token tree.

The model's own forward runs them, with its masks, rotary tables, norms and scalings, so that no architecture is a
special case. Layers outside the range pass their input on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from editbench.model.devices import in_float64
from editbench.model.hooks import hooked, mlp_only_at
from editbench.model.packed_targets import FULL, SLIDING
from editbench.model.token_tree import TokenTree
from editbench.model.tree_attention import KeysAndValues, attending_by_rows

if TYPE_CHECKING:
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


def run_tree(
    lm: LanguageModel,
    tree: TokenTree,
    *,
    first: int = 0,
    last: int | None = None,
    hidden: Tensor | None = None,
    record: KeysAndValues | None = None,
) -> Tensor:
    """:func:`run_layers` on the tokens of a tree: final hidden states by token (P, d).

    Hooks see tensors laid out as :meth:`~editbench.model.token_tree.TokenTree.laid_out` says.

    Args:
        hidden: (P, d), the input of layer ``first``; needed when ``first`` > 0.
        record: Gets keys and values of the layers that run.
    """
    from editbench.model.prefix_cache import recording_cache  # transformers takes seconds to import

    entering = tree.laid_out(hidden) if hidden is not None else None
    if not tree.by_rows:
        end = lm.n_layers - 1 if last is None else last
        with _only_layers(lm, first, end, entering), attending_by_rows(lm, tree, record):
            return lm.hidden(tree.ids[None], None, tree.positions[None])[0]
    assert record is None or tree.prefix is None
    start = tree.prefix.length if tree.prefix is not None else 0
    cache: Any = tree.prefix if record is None else recording_cache(lm)
    out = run_layers(lm, tree.padded(lm.pad_id), first=first, last=last, hidden=entering, cache=cache, start=start)
    if record is not None:
        for i, layer in enumerate(cache.layers):
            if layer.get_seq_length():
                keys, values = (t.transpose(1, 2).flatten(0, 1) for t in (layer.keys, layer.values))
                places = tree.places_along.to(keys.device)
                record[i] = keys[places], values[places]
    return tree.flat(out)


@torch.no_grad()
def runs_trees(lm: LanguageModel) -> bool:
    """Whether the model's attention can be laid out by rows: tried on two rows that share their first token.

    The last token must get a final hidden state nearer to that in its own row than to that behind all tokens.
    """
    kinds = set(getattr(lm.config, "layer_types", None) or ())
    if lm.config._attn_implementation not in ("sdpa", "eager") or not kinds <= {FULL, SLIDING}:
        return False
    size = lm.model.get_input_embeddings().weight.shape[0]
    a, b, c = size // 2, size // 3, size // 5
    record: KeysAndValues = {}
    lm.runs_trees = True
    tree = TokenTree.of(lm, [(a, b), (a, c)])
    try:
        found = in_float64(run_tree(lm, tree, record=record)[-1])
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError):
        return False
    ids, positions = torch.tensor([[a, b, c]], device=lm.device), torch.tensor([[0, 1, 1]], device=lm.device)
    ones = torch.ones_like(ids)
    plain = in_float64(lm.hidden(ids[:, [0, 2]], ones[:, :2], positions[:, :2])[0, -1])
    seen = in_float64(lm.hidden(ids, ones, positions)[0, -1])
    rounding = 2 * torch.finfo(lm.model.dtype).eps * float(plain.norm())
    near = float((found - plain).norm()) <= 0.5 * float((seen - plain).norm()) + rounding
    return near and set(record) == set(range(lm.n_layers))


@contextmanager
def mlp_only_at_tokens(lm: LanguageModel, layer: int, tree: TokenTree, tokens: Tensor) -> Iterator[None]:
    """Within the block, the MLP of ``layer`` runs only at some ``tokens`` (N,) of a tree, each named once."""
    width = tree.along.shape[1] if tree.by_rows else len(tree)
    places = tree.places_along[tokens] if tree.by_rows else tokens
    with mlp_only_at(lm, layer, len(tree.along) if tree.by_rows else 1, places // width, places % width):
        yield


def _check_used(cache: Cache, first: int, last: int, columns: int) -> None:
    """Assert that every layer that ran read its prefix, or recorded all columns: that the model used the cache."""
    from editbench.model.prefix_cache import FixedLayer

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
