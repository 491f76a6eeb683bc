"""Stores of an expert's difference D (d, d_ff) from the base weight.

- dense: D in the model's dtype.
- lowrank: D ≈ L Rᵀ in float16, of all maps of that rank the nearest to D on the edit's own inputs X (Eckart and Young,
  for D Xᵀ): with D Xᵀ = U S Vᵀ, L = U[:, :r] and R = Dᵀ L. r is the smallest within an error bound.
- quantised: per row, D ≈ scale · code with codes of 8, 4 or 2 bits, packed; the scale is the row's largest magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .config import SCENConfig
    from .training import ExpertBatch


FACTOR_DTYPE = torch.float16
BITS = (2, 4, 8)


@dataclass(frozen=True)
class CompressedExpert:
    """An expert's tensors by name; ``kind`` is "dense", "lowrank", "quantised8", "quantised4" or "quantised2"."""

    kind: str
    parts: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(t.numel() * t.element_size() for t in self.parts.values())

    def to(self, device: torch.device | str) -> CompressedExpert:
        """The same expert on ``device``."""
        return CompressedExpert(self.kind, {name: t.to(device) for name, t in self.parts.items()})

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """L (d, r) and R (d_ff, r) of a "lowrank" expert."""
        assert self.kind == "lowrank"
        return self.parts["left"].to(dtype), self.parts["right"].to(dtype)

    def delta(self, dtype: torch.dtype) -> Tensor:
        """D (d, d_ff) up to the error of the compression."""
        if self.kind == "dense":
            return self.parts["delta"].to(dtype)
        if self.kind == "lowrank":
            left, right = self.factors(torch.promote_types(dtype, torch.float32))
            return (left @ right.T).to(dtype)
        codes = _unpack(self.parts["codes"], int(self.kind.removeprefix("quantised")))
        scale = self.parts["scale"][:, None]
        return (codes[:, : int(self.parts["columns"])].to(scale.dtype) * scale).to(dtype)


def dense(delta: Tensor, dtype: torch.dtype) -> CompressedExpert:
    """D itself, in ``dtype``."""
    return CompressedExpert("dense", {"delta": delta.to(dtype)})


def low_rank(delta: Tensor, inputs: Tensor, error: float) -> CompressedExpert:
    """D (d, d_ff) as a product of two factors, for the edit's own inputs X (t, d_ff).

    ``error`` bounds ‖(D − L Rᵀ) Xᵀ‖ / ‖D Xᵀ‖, Frobenius norms, before rounding to float16.
    """
    u, s, _ = torch.linalg.svd(delta @ inputs.to(delta.dtype).T, full_matrices=False)
    omitted = s.square().flip(0).cumsum(0).flip(0)  # omitted[r]: squared error of rank r
    rank = max(1, int((omitted > error**2 * omitted[0]).sum()))
    left = u[:, :rank]
    return CompressedExpert("lowrank", {"left": left.to(FACTOR_DTYPE), "right": (delta.T @ left).to(FACTOR_DTYPE)})


def quantised(delta: Tensor, bits: int) -> CompressedExpert:
    """D with ``bits`` a number. The largest error is half a step: a row's largest magnitude / (2^bits − 1).

    Codes are the odd numbers −(2^bits − 1), …, 2^bits − 1, which are symmetric and leave no code unused.
    """
    top = 2**bits - 1
    scale = (delta.abs().amax(dim=1) / top).float()  # (d,)
    codes = ((delta / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None] + top) / 2).round()  # 0 … top
    packed = _pack(codes.clamp(0, top).to(torch.uint8), bits)
    columns = torch.tensor(delta.shape[1])
    return CompressedExpert(f"quantised{bits}", {"codes": packed, "scale": scale, "columns": columns})


def quantised_bytes(shape: torch.Size, bits: int) -> int:
    """Bytes of :func:`quantised` for a D of ``shape``."""
    return shape[0] * (math.ceil(shape[1] * bits / 8) + 4) + 8


def _pack(codes: Tensor, bits: int) -> Tensor:
    """(d, n) codes below 2^bits, as (d, ⌈n · bits / 8⌉) bytes: column j of ``per`` in the low bits first."""
    per = 8 // bits
    codes = torch.nn.functional.pad(codes, (0, -codes.shape[1] % per)).reshape(len(codes), -1, per)
    shifts = torch.arange(0, 8, bits, device=codes.device, dtype=torch.uint8)
    return (codes << shifts).sum(-1, dtype=torch.uint8)


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """Odd numbers of the packed codes, (d, n) int16, padding included."""
    shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.uint8)
    top = 2**bits - 1
    codes = (packed[..., None] >> shifts) & top  # (d, bytes, per)
    odd: Tensor = codes.flatten(1).to(torch.int16) * 2 - top
    return odd


def compress(batch: ExpertBatch, deltas: Tensor, config: SCENConfig) -> list[CompressedExpert]:
    """Compress trained experts (B, d, d_ff) as ``config.expert_store`` says."""
    if config.expert_store == "auto":
        return _smallest(batch, deltas, config)
    if config.expert_store == "lowrank":
        return [low_rank(delta, batch.own_inputs(i), config.rank_error) for i, delta in enumerate(deltas)]
    if config.expert_store == "quantised":
        return [quantised(delta, config.bits) for delta in deltas]
    return [dense(delta, batch.inputs.dtype) for delta in deltas]


@torch.no_grad()
def _smallest(batch: ExpertBatch, deltas: Tensor, config: SCENConfig) -> list[CompressedExpert]:
    """For each expert the smallest store that keeps every argmax of its answer, and its loss within the margin."""
    whole = [dense(delta, batch.inputs.dtype) for delta in deltas]
    by_size: list[list[tuple[int, CompressedExpert | int]]] = []  # bytes, and the low-rank expert or bits, by edit
    for i, delta in enumerate(deltas):
        factored = low_rank(delta, batch.own_inputs(i), config.rank_error)
        stores: list[tuple[int, CompressedExpert | int]] = [(factored.nbytes, factored)]
        stores += [(quantised_bytes(delta.shape, bits), bits) for bits in BITS]
        by_size.append(sorted(stores, key=itemgetter(0)))
    loss, best = batch.answers(torch.stack([expert.delta(deltas.dtype) for expert in whole]))
    chosen: dict[int, CompressedExpert] = {}
    for step in range(len(BITS) + 1):  # from small to large, all edits together that have no store yet
        tried = {
            i: quantised(deltas[i], kept) if isinstance(kept, int) else kept
            for i, (size, kept) in enumerate(edit[step] for edit in by_size)
            if i not in chosen and size < whole[i].nbytes
        }
        if not tried:
            break
        trial = torch.stack([tried.get(i, whole[i]).delta(deltas.dtype) for i in range(len(batch))])
        new_loss, new_best = batch.answers(trial)
        changed = torch.zeros_like(loss).index_add(0, batch.edit_of.to(loss.device), (new_best != best).to(loss))
        good = (changed == 0) & (new_loss <= loss + config.loss_margin)
        chosen |= {i: expert for i, expert in tried.items() if bool(good[i])}
    return [chosen.get(i, whole[i]) for i in range(len(batch))]
