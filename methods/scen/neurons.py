"""Stage 2: an indexing neuron is a vector r whose activation a = sigmoid(r·x) says "this prompt is my edit's".

x is taken at the last prompt token of the frozen base model, so it is computed once for each edit. With a₊ for the
edit's own prompt and a₋ for others, the published loss is

    exp(−a₊) + mean(exp(a₋) + 0.7) + mean(exp(a₋) − a₊ + 0.3)

and only its first term without others. Its margins, 0.7 and 0.3, carry no gradient. The hinge (beyond the paper) lets
them: counted from a silent neuron, exp(0) = 1, the second term becomes max(0, exp(a₋) − 1 − (1 − 0.7)) and the third
max(0, exp(a₋) − 1 − (a₊ − 0.3)), which are the same terms less a constant, cut at zero.

Shapes: B neurons, N negatives.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

DISABLE, MARGIN = 0.7, 0.3
BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's defaults


@dataclass(frozen=True)
class Training:
    """What a step of training did, before its update.

    Attributes:
        losses: (steps, B).
        activations: (steps, B) of each neuron on its own prompt.
    """

    losses: Tensor
    activations: Tensor


def initial_neuron(size: int, seed: int, edit: str) -> Tensor:
    """(size,) float32: torch's default for a linear layer, U(−1/√size, 1/√size), from the seed and the edit's id."""
    digest = hashlib.blake2b(f"{seed}:{edit}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    drawn: Tensor = (torch.rand(size, generator=generator) * 2 - 1) * size**-0.5
    return drawn


def neuron_input(x: Tensor, cosine: bool) -> Tensor:
    """What neurons see of x (…, d_ff): itself, or x / ‖x‖; float32 or wider."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return torch.nn.functional.normalize(x, dim=-1) if cosine else x


def train_neurons(
    start: Tensor,
    own: Tensor,
    others: Sequence[Tensor],
    allowed: Tensor,
    rates: Tensor,
    steps: int,
    *,
    hinge: bool = False,
) -> tuple[Tensor, Training]:
    """Adam on all neurons at once, with the gradient written out.

    Args:
        start: (B, d_ff) initial values.
        own: (B, d_ff) x of each neuron's own prompt.
        others: Negatives, in parts (n, d_ff) that need not be copied together; N rows in all.
        allowed: (B, N) bool, which negatives count for which neuron.
        rates: (B,) learning rates.
        steps: Updates.
        hinge: Cut the margin terms at zero.

    Returns:
        Trained neurons (B, d_ff), and what was seen before each update.
    """
    r, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    losses, activations = [], []
    for step in range(1, steps + 1):
        a = ((r * own).sum(1)).sigmoid()  # (B,)
        b = torch.cat([r @ x.T for x in others], dim=1).sigmoid()  # (B, N)
        loss, d_a, d_b = _loss(a, b, allowed, hinge)
        losses.append(loss)
        activations.append(a)
        gradient = (d_a * a * (1 - a))[:, None] * own
        slopes = torch.split(d_b * b * (1 - b), [len(x) for x in others], dim=1)
        for slope, x in zip(slopes, others, strict=True):
            gradient.addmm_(slope, x)
        first.lerp_(gradient, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        scale = rates[:, None] / (1 - BETAS[0] ** step)
        r -= scale * first / (second.sqrt() / (1 - BETAS[1] ** step) ** 0.5 + EPSILON)
    return r, Training(torch.stack(losses), torch.stack(activations))


def _loss(a: Tensor, b: Tensor, allowed: Tensor, hinge: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The loss (B,) at activations ``a`` (B,) and ``b`` (B, N), and its derivatives by them."""
    share = allowed.to(b) / allowed.sum(1, keepdim=True).clamp(min=1)  # (B, N): the mean's weights
    e = b.exp()
    disable, margin = e + DISABLE, e - a[:, None] + MARGIN
    pushed, parted = share, share
    if hinge:
        disable, margin = (disable - 2).relu(), (margin - 1).relu()
        pushed, parted = share * (disable > 0), share * (margin > 0)
    loss = (-a).exp() + (share * (disable + margin)).sum(1)
    return loss, -(-a).exp() - parted.sum(1), (pushed + parted) * e
