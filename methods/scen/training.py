"""Training of experts (stage 1) and of indexing neurons (stage 2).

An expert is the layer's weight, trained alone on one edit, as its difference D from the base weight W: for the
projection's input x its output is x Wᵀ + x Dᵀ, so that rows without an expert get the base model's output. Adam on D
takes the steps that it would take on W + D. The layer's inputs do not depend on D and are computed once.

Shapes: B edits, P tokens of all edits together, M of them predict an answer's, N negatives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.memory_based.projection import SECOND, Projection
from editbench.memory_based.target_rows import TargetRows, wide

if TYPE_CHECKING:
    from torch import nn

    from editbench.model.language_model import LanguageModel
    from editbench.model.token_tree import TokenTree


DISABLE, MARGIN = 0.7, 0.3
BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's defaults


class ExpertBatch(TargetRows):
    """A batch of edits, whose answers experts give."""

    def __init__(self, lm: LanguageModel, layer: int, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
        """Run the base model up to ``layer``; ``rows`` are token ids of prompt and answer, a trained EOS included."""
        super().__init__(lm, Projection.of(lm, layer, SECOND), rows)

    def answers(self, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`nll` with the experts ``deltas`` (B, d, d_ff)."""
        return self.nll(_with_experts(self.projection.module, self.tree, deltas))


def train_experts(batch: ExpertBatch, steps: int, learning_rate: float) -> tuple[Tensor, list[list[float]]]:
    """Train all experts at once and independently, with Adam from the base weight, on the answer's mean NLL.

    Returns:
        D (B, d, d_ff), float32 or wider, and per edit the loss before each step. They may be NaN or infinite.
    """
    base = batch.lm.weight(batch.projection.weight)  # (d, d_ff)
    deltas = torch.zeros((len(batch), *base.shape), dtype=wide(base.dtype), device=base.device, requires_grad=True)
    optimiser = torch.optim.Adam([deltas], lr=learning_rate, fused=True)
    losses = []
    with torch.enable_grad():
        for _ in range(steps):
            loss = batch.answers(deltas)[0]
            losses.append(loss.detach())
            optimiser.zero_grad()
            torch.autograd.backward(loss.sum())
            optimiser.step()
    return deltas.detach(), torch.stack(losses, dim=1).tolist()


@contextmanager
def _with_experts(projection: nn.Module, tree: TokenTree, deltas: Tensor) -> Iterator[None]:
    def add(module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = tree.flat(args[0])  # (P, d_ff)
        own = [x[path[0] : path[-1] + 1] for path in tree.paths]
        parts = [rows @ delta.to(x.dtype).T for rows, delta in zip(own, deltas, strict=True)]
        return output + tree.laid_out(torch.cat(parts)).reshape(output.shape)

    handle = projection.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def initial_neuron(size: int, seed: int, edit: str) -> Tensor:
    """(size,) float32: torch's default for a linear layer, U(−1/√size, 1/√size), from the seed and the edit's id."""
    digest = hashlib.blake2b(f"{seed}:{edit}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    drawn: Tensor = (torch.rand(size, generator=generator) * 2 - 1) * size**-0.5
    return drawn


def neuron_input(x: Tensor, cosine: bool) -> Tensor:
    """Input of the neurons for x (…, d_ff): x, or x / ‖x‖; float32 or wider."""
    x = x.to(wide(x.dtype))
    return torch.nn.functional.normalize(x, dim=-1) if cosine else x


def train_neurons(
    start: Tensor,
    own: Tensor,
    others: Sequence[Tensor],
    allowed: Tensor,
    rates: Tensor,
    steps: int,
    hinge: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adam on all neurons at once, with the gradient written out.

    Args:
        start: (B, d_ff) initial values.
        own: (B, d_ff) x of each neuron's own prompt.
        others: Negatives in parts (n, d_ff), N rows in all.
        allowed: (B, N) bool, True where a negative counts for a neuron.
        rates: (B,) learning rates.

    Returns:
        Trained neurons (B, d_ff), and before each update losses and activations on the own prompt, (steps, B) each.
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
    return r, torch.stack(losses), torch.stack(activations)


def _loss(a: Tensor, b: Tensor, allowed: Tensor, hinge: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (B,) at activations ``a`` (B,) and ``b`` (B, N), and its derivatives with respect to both."""
    share = allowed.to(b) / allowed.sum(1, keepdim=True).clamp(min=1)  # (B, N): the mean's weights
    e = b.exp()
    disable, margin = e + DISABLE, e - a[:, None] + MARGIN
    pushed, parted = share, share
    if hinge:
        disable, margin = (disable - 2).relu(), (margin - 1).relu()
        pushed, parted = share * (disable > 0), share * (margin > 0)
    loss = (-a).exp() + (share * (disable + margin)).sum(1)
    return loss, -(-a).exp() - parted.sum(1), (pushed + parted) * e
