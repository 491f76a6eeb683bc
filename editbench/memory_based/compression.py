"""Stores of a difference D (d, d_in) from a base weight.

- dense: D in the model's dtype.
- sparse: the numbers of D that are not zero, and one bit for each place.
- lowrank: D ≈ L Rᵀ in float16, of all maps of that rank the nearest to D on an edit's own inputs X (Eckart and Young,
  for D Xᵀ): with D Xᵀ = U S Vᵀ, L = U[:, :r] and R = Dᵀ L. r is the smallest within an error bound.
- quantised: per row, D ≈ scale · code with codes of 8, 4 or 2 bits, packed; the scale is the row's largest magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

FACTOR_DTYPE = torch.float16
BITS = (2, 4, 8)


@dataclass(frozen=True)
class CompressedDelta:
    """Tensors of a stored D by name; ``kind`` is "dense", "lowrank", "sparse", "quantised8", "…4" or "…2"."""

    kind: str
    parts: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(t.numel() * t.element_size() for t in self.parts.values())

    def to(self, device: torch.device | str) -> CompressedDelta:
        """The same on ``device``."""
        return CompressedDelta(self.kind, {name: t.to(device) for name, t in self.parts.items()})

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """L (d, r) and R (d_in, r) of a "lowrank" one."""
        assert self.kind == "lowrank"
        return self.parts["left"].to(dtype), self.parts["right"].to(dtype)

    def delta(self, dtype: torch.dtype) -> Tensor:
        """D (d, d_in) up to the error of the compression."""
        if self.kind == "dense":
            return self.parts["delta"].to(dtype)
        if self.kind == "lowrank":
            left, right = self.factors(torch.promote_types(dtype, torch.float32))
            return (left @ right.T).to(dtype)
        if self.kind == "sparse":
            shape: list[int] = self.parts["shape"].tolist()
            kept = _unpack_bits(self.parts["bits"], shape[0] * shape[1])
            whole = torch.zeros(len(kept), dtype=dtype, device=kept.device)
            whole[kept] = self.parts["values"].to(dtype)
            return whole.reshape(shape)
        codes = _unpack(self.parts["codes"], int(self.kind.removeprefix("quantised")))
        scale = self.parts["scale"][:, None]
        return (codes[:, : int(self.parts["columns"])].to(scale.dtype) * scale).to(dtype)


def dense(delta: Tensor, dtype: torch.dtype) -> CompressedDelta:
    """D itself, in ``dtype``."""
    return CompressedDelta("dense", {"delta": delta.to(dtype)})


def sparse(delta: Tensor) -> CompressedDelta:
    """D's numbers that are not zero, exactly, with one bit for each place."""
    kept = delta.flatten() != 0
    bits = _pack(kept.to(torch.uint8)[None], 1)[0]
    shape = torch.tensor(delta.shape, device=delta.device)
    return CompressedDelta("sparse", {"values": delta.flatten()[kept], "bits": bits, "shape": shape})


def low_rank(delta: Tensor, inputs: Tensor, error: float) -> CompressedDelta:
    """D (d, d_in) as a product of two factors, for the edit's own inputs X (t, d_in).

    ``error`` bounds ‖(D − L Rᵀ) Xᵀ‖ / ‖D Xᵀ‖, Frobenius norms, before rounding to float16.
    """
    u, s, _ = torch.linalg.svd(delta @ inputs.to(delta.dtype).T, full_matrices=False)
    omitted = s.square().flip(0).cumsum(0).flip(0)  # omitted[r]: squared error of rank r
    rank = max(1, int((omitted > error**2 * omitted[0]).sum()))
    left = u[:, :rank]
    return CompressedDelta("lowrank", {"left": left.to(FACTOR_DTYPE), "right": (delta.T @ left).to(FACTOR_DTYPE)})


def quantised(delta: Tensor, bits: int) -> CompressedDelta:
    """D with ``bits`` a number. The largest error is half a step: a row's largest magnitude / (2^bits − 1).

    Codes are the odd numbers −(2^bits − 1), …, 2^bits − 1, which are symmetric and leave no code unused.
    """
    top = 2**bits - 1
    scale = (delta.abs().amax(dim=1) / top).float()  # (d,)
    codes = ((delta / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None] + top) / 2).round()  # 0 … top
    packed = _pack(codes.clamp(0, top).to(torch.uint8), bits)
    columns = torch.tensor(delta.shape[1])
    return CompressedDelta(f"quantised{bits}", {"codes": packed, "scale": scale, "columns": columns})


def quantised_bytes(shape: torch.Size, bits: int) -> int:
    """Bytes of :func:`quantised` for a D of ``shape``."""
    return shape[0] * (math.ceil(shape[1] * bits / 8) + 4) + 8


def _pack(codes: Tensor, bits: int) -> Tensor:
    """(d, n) codes below 2^bits, as (d, ⌈n · bits / 8⌉) bytes: column j of ``per`` in the low bits first."""
    per = 8 // bits
    codes = torch.nn.functional.pad(codes, (0, -codes.shape[1] % per)).reshape(len(codes), -1, per)
    shifts = torch.arange(0, 8, bits, device=codes.device, dtype=torch.uint8)
    return (codes << shifts).sum(-1, dtype=torch.uint8)


def _unpack_bits(packed: Tensor, count: int) -> Tensor:
    """(count,) bool of bits packed by :func:`_pack`."""
    shifts = torch.arange(8, device=packed.device, dtype=torch.uint8)
    return ((packed[:, None] >> shifts) & 1).flatten()[:count].bool()


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """Odd numbers of the packed codes, (d, n) int16, padding included."""
    shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.uint8)
    top = 2**bits - 1
    codes = (packed[..., None] >> shifts) & top  # (d, bytes, per)
    odd: Tensor = codes.flatten(1).to(torch.int16) * 2 - top
    return odd
