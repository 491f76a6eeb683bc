"""Attention masks for packed rows, and which models take them.

Transformers hands a four-dimensional mask to the attention as it is. Such a mask must know of sliding windows itself:
Mistral and Phi-3 use one window in all layers and take one mask; Gemma 2 and 3, Qwen 2 and 3 name a type for each layer
(``config.layer_types``) and take a dictionary with one mask for each type. This is known and tested for the classes of
:data:`PACKS` with attention "sdpa" or "eager"; for all others rows are not packed and the model makes its own mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from editbench.evaluation.packing import PADDING, PROMPT

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.evaluation.packing import Layout
    from editbench.host import Host

PACKS = frozenset(
    f"{name}ForCausalLM"
    for name in ("GPTJ", "GPTNeoX", "Llama", "Mistral", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "Phi3", "OPT")
) | {"GPT2LMHeadModel"}
"""Classes of models that take packed rows."""
_FULL, _SLIDING = "full_attention", "sliding_attention"


def takes_packed_rows(host: Host) -> bool:
    """Whether the model takes masks of ours, and so rows that hold several targets."""
    return (
        type(host.model).__name__ in PACKS
        and host.config._attn_implementation in ("sdpa", "eager")
        and set(getattr(host.config, "layer_types", None) or ()) <= {_FULL, _SLIDING}
    )


def attention_mask(host: Host, layout: Layout) -> Tensor | dict[str, Tensor]:
    """The mask that the model takes for a batch, as told above.

    Returns:
        (B, T) int64, 1 where there is a token, where rows are not packed; else one (B, 1, T, T) in the model's dtype,
        or a dictionary of these by layer type.
    """
    if not takes_packed_rows(host):
        return (layout.segments != PADDING).long()
    window = getattr(host.config, "sliding_window", None)
    dtype = host.model.get_input_embeddings().weight.dtype
    if not getattr(host.config, "layer_types", None):
        return packed_mask(layout.position_ids, layout.segments, dtype, window)
    return {
        _FULL: packed_mask(layout.position_ids, layout.segments, dtype),
        _SLIDING: packed_mask(layout.position_ids, layout.segments, dtype, window),
    }


def packed_mask(positions: Tensor, segments: Tensor, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """Mask to add to the attention scores: 0 where a column sees another, the lowest number where it does not.

    A column sees the prompt and its own segment, up to its own position, no further back than the window. Padding
    sees padding, so that no row of the mask is empty, and nothing else sees it.

    Args:
        positions: (B, T) position of each column in its own sequence.
        segments: (B, T) as in :class:`~editbench.evaluation.packing.Layout`.
        dtype: The model's.
        window: Positions that a column sees, its own included; None for all.

    Returns:
        (B, 1, T, T), query by key.
    """
    back = positions[:, :, None] - positions[:, None, :]  # (B, T, T): how far back the key lies
    query, key = segments[:, :, None], segments[:, None, :]
    sees = (back >= 0) & ((key == query) | ((key == PROMPT) & (query != PADDING)))
    if window is not None:
        sees &= back < window
    lowest = torch.finfo(dtype).min
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, lowest)[:, None]
