"""TIES: merges changes of one weight into one change (Yadav et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def ties(deltas: Sequence[Tensor], weights: Sequence[float], density: float) -> Tensor:
    """The merged change: of each its largest numbers, of these the elected sign's, of these the weighted mean.

    Args:
        deltas: Changes of one shape.
        weights: One for each.
        density: Share of the numbers of each that are kept.
    """
    kept = torch.stack([trimmed(delta, density) for delta in deltas])  # (k, out, in)
    weight = torch.tensor(weights, dtype=kept.dtype, device=kept.device).reshape(-1, *[1] * (kept.ndim - 1))
    weighted = kept * weight
    sign = torch.where(weighted.sum(0) >= 0, 1.0, -1.0).to(kept)  # a sum of zero counts as positive
    agree = (kept.sign() == sign).to(kept)
    share: Tensor = (weight * agree).sum(0)
    return (weighted * agree).sum(0) / share.where(share > 0, torch.ones_like(share))


def trimmed(delta: Tensor, density: float) -> Tensor:
    """The int(density · n) numbers of the largest size; the others are zero."""
    size = int(density * delta.numel())
    places = delta.abs().flatten().topk(size).indices
    out = torch.zeros_like(delta).flatten()
    out[places] = delta.flatten()[places]
    return out.reshape(delta.shape)
