"""How an expert's difference D (d, d_ff) from the base weight is kept.

- dense: D in the model's dtype.
- lowrank: D ≈ L Rᵀ in float16. Of all maps of that rank it is the nearest to D on the edit's own inputs X (Eckart and
  Young, for D Xᵀ): with D Xᵀ = U S Vᵀ, L = U[:, :r] and R = Dᵀ L. r is the smallest within an error bound.
- quantised: per row, D ≈ scale · code with codes of 8, 4 or 2 bits, packed; the scale is the row's largest magnitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from .config import SCENConfig
    from .training import Lessons


FACTOR_DTYPE = torch.float16


@dataclass(frozen=True)
class Packed:
    """An expert as it is kept.

    Attributes:
        kind: "dense", "lowrank", "quantised8", "quantised4" or "quantised2".
        parts: Its tensors, by name.
    """

    kind: str
    parts: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(t.numel() * t.element_size() for t in self.parts.values())

    def to(self, device: torch.device | str) -> Packed:
        """The same on ``device``."""
        return Packed(self.kind, {name: t.to(device) for name, t in self.parts.items()})

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """L (d, r) and R (d_ff, r) of a "lowrank" expert."""
        assert self.kind == "lowrank"
        return self.parts["left"].to(dtype), self.parts["right"].to(dtype)

    def delta(self, dtype: torch.dtype) -> Tensor:
        """D (d, d_ff), as well as it was kept."""
        if self.kind == "dense":
            return self.parts["delta"].to(dtype)
        if self.kind == "lowrank":
            left, right = self.factors(torch.promote_types(dtype, torch.float32))
            return (left @ right.T).to(dtype)
        codes = _unpack(self.parts["codes"], int(self.kind.removeprefix("quantised")))
        scale = self.parts["scale"][:, None]
        return (codes[:, : int(self.parts["columns"])].to(scale.dtype) * scale).to(dtype)


def pack_dense(delta: Tensor, dtype: torch.dtype) -> Packed:
    """Keep D as it is, in ``dtype``."""
    return Packed("dense", {"delta": delta.to(dtype)})


def pack_lowrank(delta: Tensor, inputs: Tensor, error: float) -> Packed:
    """Keep D as the product of two thin matrices.

    Args:
        delta: D (d, d_ff).
        inputs: X (t, d_ff), the edit's own inputs.
        error: Bound of ‖(D − L Rᵀ) Xᵀ‖ / ‖D Xᵀ‖, Frobenius norms, before rounding to float16.
    """
    u, s, _ = torch.linalg.svd(delta @ inputs.to(delta.dtype).T, full_matrices=False)
    beyond = s.square().flip(0).cumsum(0).flip(0)  # beyond[r]: what rank r leaves out
    rank = max(1, int((beyond > error**2 * beyond[0]).sum()))
    left = u[:, :rank]
    return Packed("lowrank", {"left": left.to(FACTOR_DTYPE), "right": (delta.T @ left).to(FACTOR_DTYPE)})


def pack_quantised(delta: Tensor, bits: int) -> Packed:
    """Keep D with ``bits`` a number. The largest error is half a step: a row's largest magnitude / (2^bits − 1).

    Codes are the odd numbers −(2^bits − 1), …, 2^bits − 1, which are symmetric and leave no code unused.
    """
    top = 2**bits - 1
    scale = (delta.abs().amax(dim=1) / top).float()  # (d,)
    codes = ((delta / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None] + top) / 2).round()  # 0 … top
    packed = _pack(codes.clamp(0, top).to(torch.uint8), bits)
    columns = torch.tensor(delta.shape[1])
    return Packed(f"quantised{bits}", {"codes": packed, "scale": scale, "columns": columns})


def quantised_bytes(shape: torch.Size, bits: int) -> int:
    """What :func:`pack_quantised` takes for a D of ``shape``."""
    return shape[0] * (math.ceil(shape[1] * bits / 8) + 4) + 8


def _pack(codes: Tensor, bits: int) -> Tensor:
    """(d, n) codes below 2^bits, as (d, ⌈n · bits / 8⌉) bytes: column j of ``per`` in the low bits first."""
    per = 8 // bits
    codes = torch.nn.functional.pad(codes, (0, -codes.shape[1] % per)).reshape(len(codes), -1, per)
    shifts = torch.arange(0, 8, bits, device=codes.device, dtype=torch.uint8)
    return (codes << shifts).sum(-1, dtype=torch.uint8)


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """The odd numbers that the packed codes stand for, (d, n) int16, padding included."""
    shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.uint8)
    top = 2**bits - 1
    codes = (packed[..., None] >> shifts) & top  # (d, bytes, per)
    odd: Tensor = codes.flatten(1).to(torch.int16) * 2 - top
    return odd


BITS = (2, 4, 8)


def pack(lessons: Lessons, deltas: Tensor, config: SCENConfig) -> list[Packed]:
    """Put trained experts (B, d, d_ff) into the config's store."""
    if config.expert_store == "auto":
        return _smallest(lessons, deltas, config)
    return [_pack_as(lessons, deltas[i], i, config.expert_store, config) for i in range(len(lessons))]


def _pack_as(lessons: Lessons, delta: Tensor, edit: int, store: str, config: SCENConfig) -> Packed:
    if store == "lowrank":
        return pack_lowrank(delta, lessons.own_inputs(edit), config.rank_error)
    if store.startswith("quantised"):
        return pack_quantised(delta, int(store.removeprefix("quantised") or config.bits))
    return pack_dense(delta, lessons.inputs.dtype)


@torch.no_grad()
def _smallest(lessons: Lessons, deltas: Tensor, config: SCENConfig) -> list[Packed]:
    """For each expert the smallest store that keeps every argmax of its answer, and its loss within the margin.

    The stores are tried from small to large, the next one for all edits at once that are not served yet.
    """
    dense = [pack_dense(delta, lessons.inputs.dtype) for delta in deltas]
    thin = [_pack_as(lessons, delta, i, "lowrank", config) for i, delta in enumerate(deltas)]
    sizes = {f"quantised{bits}": quantised_bytes(deltas[0].shape, bits) for bits in BITS}
    ladders = [
        sorted(({"lowrank": small.nbytes} | sizes).items(), key=lambda item: item[1]) for small in thin
    ]  # (store, bytes) of each edit, ascending
    loss, best = lessons.answers(torch.stack([p.delta(deltas.dtype) for p in dense]))
    found: dict[int, Packed] = {}
    for step in range(len(sizes) + 1):
        tried = {
            i: thin[i] if ladder[step][0] == "lowrank" else _pack_as(lessons, deltas[i], i, ladder[step][0], config)
            for i, ladder in enumerate(ladders)
            if i not in found and ladder[step][1] < dense[i].nbytes
        }
        if not tried:
            break
        trial = torch.stack([tried.get(i, dense[i]).delta(deltas.dtype) for i in range(len(lessons))])
        new_loss, new_best = lessons.answers(trial)
        changed = torch.zeros_like(loss).index_add(0, lessons.edit_of.to(loss.device), (new_best != best).to(loss))
        good = (changed == 0) & (new_loss <= loss + config.loss_margin)
        found |= {i: packed for i, packed in tried.items() if bool(good[i])}
    return [found.get(i, dense[i]) for i in range(len(lessons))]
