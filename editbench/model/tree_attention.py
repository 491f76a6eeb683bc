"""Attention over a token tree: the attention function that the model's config names, on the tree's rows.

Transformers' attention modules call the function that the config names; within :func:`attending_by_rows` that is
:func:`_attend`, which lays queries, keys and values out by rows, calls the function named before (torch's own for
"sdpa"), and puts its output back by token. Norms, projections and rotary embeddings around it never see a row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.model.token_tree import TokenTree

NAME = "editbench_token_tree"

KeysAndValues = dict[int, "tuple[Tensor, Tensor]"]
"""By layer, keys and values of all tokens (P, heads, head size)."""


@dataclass
class _Pass:
    """A forward pass over a tree."""

    tree: TokenTree
    implementation: str  # the model's own
    record: KeysAndValues | None
    masks: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, like: Tensor, times: int = 1) -> Tensor:
        """What is added to the scores, (R, 1, times · Q, C + L)."""
        key = (window, like.dtype, like.device, times)
        if key not in self.masks:
            hidden = ~self.tree.visible(window).repeat(1, 1, times, 1).to(like.device)
            zeros = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
            self.masks[key] = zeros.masked_fill(hidden, torch.finfo(like.dtype).min)
        return self.masks[key]

    def attend(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
        """(R, Q, heads, head size) of queries (R, heads, Q, head size), keys and values (R, kv heads, C + L, ·)."""
        window, special = options.get("sliding_window"), {name for name in _SPECIAL if options.get(name) is not None}
        if self.implementation == "sdpa" and not special:
            # Query heads that share keys stand side by side as queries, so that keys and values are not repeated.
            shape, times = q.shape, q.shape[1] // k.shape[1]
            q = q.reshape(shape[0], k.shape[1], times * shape[2], shape[3])
            mask = self.mask(window, q, times)
            out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=options.get("scaling"))
            return out.reshape(shape).transpose(1, 2)
        function = _function(self.implementation, module)
        found: Tensor = function(module, q, k, v, self.mask(window, q), **options)[0]
        return found


_SPECIAL = ("softcap", "s_aux", "position_bias")  # what only the model's own function knows


_running: ContextVar[_Pass] = ContextVar("running")


@contextmanager
def attending_by_rows(lm: LanguageModel, tree: TokenTree, record: KeysAndValues | None) -> Iterator[None]:
    """Within the block, a forward pass of the decoder over (1, P) tokens attends as ``tree`` says.

    Args:
        record: Gets keys and values by layer.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    config, own = lm.config, lm.config._attn_implementation
    token = _running.set(_Pass(tree, own, record))
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own
        _running.reset(token)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Transformers' interface: query (1, heads, P, head size), keys and values likewise; output (1, P, heads, ·)."""
    run = _running.get()
    tree, at = run.tree, int(module.layer_idx)  # type: ignore[arg-type]
    # No indexing: its backward would fill a tensor with zeros first, three times a layer.
    q, k, v = (t.squeeze(0).transpose(0, 1) for t in (query, key, value))  # (P, heads, head size)
    if run.record is not None:
        run.record[at] = k, v
    own, places = tree.own.to(q.device), tree.places.to(q.device)
    if tree.shared:
        along = tree.along.to(q.device)
        rows = [q[own], k[along], v[along]]
    else:
        inverse = tree.inverse.to(q.device)
        rows = [_LayOut.apply(t, own, places, inverse) for t in (q, k, v)]  # type: ignore[no-untyped-call]
    q, k, v = (t.transpose(1, 2) for t in rows)  # (R, heads, ·, head size)
    if tree.prefix is not None:
        k, v = tree.prefix.layers[at].update(k, v)
    out = run.attend(module, q, k, v, options)
    flat = out.reshape(-1, *out.shape[2:])
    flat = flat[places] if tree.shared else _PutBack.apply(flat, places, inverse)  # type: ignore[no-untyped-call]
    return flat[None], None


def _function(implementation: str, module: nn.Module) -> Any:
    """The attention function of a name; "eager" is each model's own."""
    if implementation == "eager":
        return sys.modules[type(module).__module__].eager_attention_forward  # type: ignore[attr-defined]
    from transformers import AttentionInterface

    return AttentionInterface()[implementation]


class _LayOut(torch.autograd.Function):
    """x (P, ·) at ``own`` (R, Q); each token has one place, so that the gradient is picked, not summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, own: Tensor, places: Tensor, inverse: Tensor) -> Tensor:
        """(R, Q, ·)."""
        ctx.save_for_backward(places)
        return x.index_select(0, own.flatten()).reshape(*own.shape, *x.shape[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """(P, ·)."""
        (places,), (gradient,) = ctx.saved_tensors, gradients
        return gradient.flatten(0, 1).index_select(0, places), None, None, None


class _PutBack(torch.autograd.Function):
    """x (R · Q, ·) by token (P, ·); padding gets no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, inverse: Tensor) -> Tensor:
        """(P, ·)."""
        ctx.save_for_backward(places, inverse)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """(R · Q, ·)."""
        (places, inverse), (gradient,) = ctx.saved_tensors, gradients
        if len(inverse) == len(gradient):
            return gradient.index_select(0, inverse), None, None
        padded = gradient.new_zeros(len(inverse), *gradient.shape[1:])
        return padded.index_copy_(0, places, gradient), None, None
