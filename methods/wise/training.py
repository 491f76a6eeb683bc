"""Training of the side memory: masked gradient descent on one weight, within a bound around the original one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .config import PUBLISHED, WISEConfig
from .scores import Activation, margin_loss, own_outputs, row_means, token_scores

if TYPE_CHECKING:
    from editbench.memory_based.projection import Projection

    from .rows import Rows

LOSS_CHANGE, LOSS_BOUND = 1e-4, 2e-2  # training stops where the loss is this small and no longer changes


@dataclass(frozen=True)
class Trained:
    """The memory after an edit.

    Attributes:
        weight: W' (d_out, d_in).
        losses: Before each step: of the answer, and of the scores' margins.
        score: Of the edit: on the bare prompt with this memory; as published, the mean over rows before the last step.
    """

    weight: Tensor
    losses: list[tuple[float, float]]
    score: float


def train_memory(
    at: Projection,
    rows: Rows,
    base: Tensor,
    start: Tensor,
    mask: Tensor,
    config: WISEConfig,
    activation: Activation | None,
) -> Trained:
    """Train W' (d_out, d_in) from ``start`` on one edit's rows.

    Args:
        base: W.
        mask: True where W' may differ from W.
    """
    weight, published = start.clone().requires_grad_(True), config.rules == PUBLISHED
    x, own = rows.inputs.to(start.dtype), own_outputs(at, rows.inputs, activation)
    n = int(rows.row_of.max()) + 1
    margins = config.alpha, config.beta, config.gamma
    losses: list[tuple[float, float]] = []
    score = 0.0
    for _ in range(config.steps):
        with torch.enable_grad():
            added = x @ (weight - base).T  # (P, d_out)
            answer = rows.loss(added)
            scores = row_means(token_scores(own, added, activation), rows.row_of, rows.counted, n)
            margin = margin_loss(scores, margins, published)
            (gradient,) = torch.autograd.grad(answer.to(margin) + margin, weight)
        losses.append((answer.item(), margin.item()))
        score = float(scores[:-1].detach().mean())
        # the published code asks before it has noted the step's own loss
        total = [sum(pair) for pair in (losses[-3:-1] if published else losses[-2:])]
        if len(total) == 2 and abs(total[0] - total[1]) <= LOSS_CHANGE and total[1] <= LOSS_BOUND:
            break
        with torch.no_grad():
            decay = config.weight_decay * weight
            change = gradient * mask + decay if published else (gradient + decay) * mask
            weight -= config.learning_rate * change
            bound = config.norm_bound
            weight.copy_(torch.clamp(weight, base - bound, base + bound))
    if not published:
        with torch.no_grad():
            trained = token_scores(own, x @ (weight - base).T, activation)
            score = float(row_means(trained, rows.row_of, rows.counted, n)[0])
    return Trained(weight.detach(), losses, score)
