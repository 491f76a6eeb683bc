"""Training of LoRA blocks: scale · x A B is added to the projections of a few layers, A (d_in, r) and B (r, d_out)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from editbench.memory_based.low_rank_block import added

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.memory_based.projection import Projection

    from .config import MELOConfig
    from .rows import Rows

HALVED_EVERY = 20  # steps of the learning rate


def train_block(
    rows: Rows, at: Sequence[Projection], start: Sequence[tuple[Tensor, Tensor]], config: MELOConfig
) -> tuple[list[tuple[Tensor, Tensor]], list[float]]:
    """Adam on one block alone; its factors, and the loss before each step. They may be NaN or infinite."""
    factors = [(a.clone().requires_grad_(True), b.clone().requires_grad_(True)) for a, b in start]
    optimiser = torch.optim.Adam([factor for pair in factors for factor in pair], lr=config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, HALVED_EVERY, 0.5)
    losses = []
    with torch.enable_grad():
        for _ in range(config.steps):
            changed = [added(one.module, a, b, config.scale) for one, (a, b) in zip(at, factors, strict=True)]
            loss = rows.loss(changed, at[-1].layer)
            losses.append(loss.detach())
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    return [(a.detach(), b.detach()) for a, b in factors], torch.stack(losses).tolist()
