"""Changes of a weight from rows of its module: the ridge solve, and products of thin factors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from editbench.ledger import Dense, LowRank
from editbench.model.devices import in_float64

if TYPE_CHECKING:
    from torch import Tensor


def ridge_factor(h: Tensor, v: Tensor, ridge: Tensor | float) -> Tensor:
    """(HHᵀ + λI)⁻¹V (N, d_out), float64: its transpose times H (N, d_in) is [(HᵀH + λI)⁻¹HᵀV]ᵀ."""
    h, v = in_float64(h), in_float64(v)
    ridge = ridge.to(h.device) if isinstance(ridge, torch.Tensor) else ridge
    factor: Tensor = torch.linalg.solve(h @ h.T + ridge * torch.eye(len(h), dtype=h.dtype, device=h.device), v)
    return factor


def ridge_change(weight: str, h: Tensor, v: Tensor, ridge: float) -> LowRank | Dense:
    """The change [(HᵀH + λI)⁻¹HᵀV]ᵀ of a weight, in the dtype of V: a solve of size N or d_in in float64."""
    tokens, width = h.shape
    if tokens > width:
        wide = in_float64(h)
        square = wide.T @ wide
        square.diagonal().add_(ridge)
        return Dense(weight, torch.linalg.solve(square, wide.T @ in_float64(v)).T.to(v.dtype))
    return product(weight, ridge_factor(h, v, ridge).T.to(v.dtype), h.T.to(v.dtype))


def product(weight: str, left: Tensor, right: Tensor) -> LowRank | Dense:
    """The change left (d_out, r) @ right (d_in, r)ᵀ, as factors if these are smaller."""
    if left.shape[1] * (len(left) + len(right)) < len(left) * len(right):
        return LowRank(weight, left, right)
    return Dense(weight, left @ right.T)


def norm(change: LowRank | Dense) -> float:
    """Frobenius norm of a change."""
    if isinstance(change, Dense):
        return float(change.delta.norm())
    left, right = in_float64(change.left), in_float64(change.right)
    return math.sqrt(max(0.0, float(((left.T @ left) * (right.T @ right)).sum())))
