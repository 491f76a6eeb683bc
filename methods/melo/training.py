"""Training of LoRA blocks: scale · x A B is added to the projections of a few layers, A (d_in, r) and B (r, d_out)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from editbench.memory_based.compression import CompressedDelta
from editbench.memory_based.target_rows import wide

if TYPE_CHECKING:
    from editbench.memory_based.projection import Projection

    from .config import MELOConfig
    from .rows import Rows

HALVED_EVERY = 20  # steps of the learning rate


@contextmanager
def _added(module: nn.Module, a: Tensor, b: Tensor, scale: float) -> Iterator[None]:
    """Within the block, the module's output has scale · x A B added."""

    def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + (scale * (args[0].to(a.dtype) @ a @ b)).to(output.dtype)

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def initial_factors(at: Projection, rank: int, seed: int, block: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """A (d_in, r), U(−1/√d_in, 1/√d_in) from the seed, the block's number and the layer, and B (r, d_out), zero."""
    digest = hashlib.blake2b(f"{seed}:block {block} {at.weight}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    a = (torch.rand((at.d_in, rank), generator=generator) * 2 - 1) * at.d_in**-0.5
    dtype = wide(like.dtype)
    return a.to(like.device, dtype), torch.zeros((rank, at.d_out), dtype=dtype, device=like.device)


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
            changed = [_added(one.module, a, b, config.scale) for one, (a, b) in zip(at, factors, strict=True)]
            loss = rows.loss(changed, at[-1].layer)
            losses.append(loss.detach())
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    return [(a.detach(), b.detach()) for a, b in factors], torch.stack(losses).tolist()


def as_delta(a: Tensor, b: Tensor, scale: float) -> CompressedDelta:
    """A block at one layer as D = scale · (A B)ᵀ, in factors."""
    return CompressedDelta("lowrank", {"left": scale * b.T, "right": a})
