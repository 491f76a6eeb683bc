"""Muon (Jordan et al., 2024) in float32: torch's own multiplies in bfloat16, several times slower on many CPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz step, as published."""


class Muon(torch.optim.Optimizer):
    """Momentum whose updates are made orthogonal; for matrices only, those of one shape updated together.

    An update has 0.2 times the root mean square that AdamW's have at most, so that both can share learning rates.
    """

    def __init__(self, params: Any, lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all matrices once."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                shapes.setdefault(weight.shape, []).append(weight)
            for weights in shapes.values():
                _update(group, weights, [self.state[weight] for weight in weights])


def _update(group: dict[str, Any], weights: list[Tensor], states: list[dict[str, Tensor]]) -> None:
    moments = []
    for weight, state in zip(weights, states, strict=True):
        assert weight.grad is not None
        if not state:
            state["moment"] = torch.zeros_like(weight)
        state["moment"].lerp_(weight.grad, 1 - group["momentum"])
        moments.append(weight.grad.lerp(state["moment"], group["momentum"]))
    rate = group["lr"] * 0.2 * max(weights[0].shape) ** 0.5
    for weight, update in zip(weights, orthogonal(torch.stack(moments)), strict=True):
        weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=rate)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the same singular vectors: (n, rows, columns) to the same shape."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
