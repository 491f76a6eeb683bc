"""Mask probe: whether attention obeys a mask (B, 1, T, T) of ours, tried on three tokens when a model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel


@torch.no_grad()
def obeys_masks(lm: LanguageModel) -> bool:
    """Whether the third token, with the second masked and its position, gets what it gets right behind the first.

    Its final hidden state has to be nearer to that of the two tokens alone than to that of all three unmasked.
    """
    size = lm.model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[size // 2, size // 3, size // 5]], device=lm.device)
    positions = torch.tensor([[0, 1, 1]], device=lm.device)
    dtype = lm.model.get_input_embeddings().weight.dtype
    hidden = torch.tensor([[0, 1, 1], [0, 0, 1], [0, 1, 0]], dtype=torch.bool, device=lm.device)[None, None]
    mask = torch.zeros((1, 1, 3, 3), dtype=dtype, device=lm.device).masked_fill(hidden, torch.finfo(dtype).min)
    kinds = set(getattr(lm.config, "layer_types", None) or ())
    ones = torch.ones_like(ids)
    plain = lm.hidden(ids[:, [0, 2]], ones[:, :2], positions[:, :2])[0, -1].double()
    seen = lm.hidden(ids, ones, positions)[0, -1].double()
    try:
        masked = lm.hidden(ids, {kind: mask for kind in kinds} if kinds else mask, positions)[0, -1].double()  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError):  # it takes no such mask
        return False
    rounding = 2 * torch.finfo(dtype).eps * float(plain.norm())
    return float((masked - plain).norm()) <= 0.5 * float((seen - plain).norm()) + rounding
