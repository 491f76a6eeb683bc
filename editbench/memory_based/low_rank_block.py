"""Low-rank blocks beside a projection: scale · x A B is added to its output, A (d_in, r) and B (r, d_out)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .compression import CompressedDelta
from .target_rows import wide

if TYPE_CHECKING:
    from .projection import Projection


@contextmanager
def added(module: nn.Module, a: Tensor, b: Tensor, scale: float) -> Iterator[None]:
    """Within the block, the module's output has scale · x A B added."""

    def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + (scale * (args[0].to(a.dtype) @ a @ b)).to(output.dtype)

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def initial_factors(at: Projection, rank: int, seed: int, name: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """A (d_in, r), U(−1/√d_in, 1/√d_in) from the seed, the block's name and the layer, and B (r, d_out), zero."""
    digest = hashlib.blake2b(f"{seed}:{name} {at.weight}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    a = (torch.rand((at.d_in, rank), generator=generator) * 2 - 1) * at.d_in**-0.5
    dtype = wide(like.dtype)
    return a.to(like.device, dtype), torch.zeros((rank, at.d_out), dtype=dtype, device=like.device)


def as_delta(a: Tensor, b: Tensor, scale: float) -> CompressedDelta:
    """A block at one layer as D = scale · (A B)ᵀ, in factors."""
    return CompressedDelta("lowrank", {"left": scale * b.T, "right": a})
