"""Experts' part of the projection's output, by grouped products.

Shapes: R rows of a forward pass, T columns, E different experts, g rows of the most popular one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.memory_based.routing import Answer, Pass

if TYPE_CHECKING:
    from .compression import CompressedExpert


@dataclass(frozen=True)
class Group:
    """Experts of one form and the rows that they answer, for one grouped product.

    Attributes:
        weights: Factors of the experts' Dᵀ, each (E, ·, ·): two for low-rank experts, else one.
        gather: (E · g,) rows by expert, padded with row 0.
        kept: (F,) places in ``gather`` that are not padding.
        rows: (F,) rows in these places.
    """

    weights: tuple[Tensor, ...]
    gather: Tensor
    kept: Tensor
    rows: Tensor

    def add(self, x: Tensor, output: Tensor) -> Tensor:
        """``output`` (R, T, d) of the base weight plus the experts' part for x (R, T, d_ff)."""
        y = x[self.gather].reshape(len(self.weights[0]), -1, x.shape[-1])  # (E, g · T, d_ff)
        for weight in self.weights:
            y = y @ weight
        y = y.reshape(len(self.gather), *output.shape[1:])[self.kept]  # (F, T, d)
        return output.index_add(0, self.rows, y.to(output.dtype))


@dataclass(frozen=True)
class Routing(Answer):
    """The experts that answer, by edit id."""

    experts: Mapping[str, CompressedExpert]
    _groups: dict[int, list[Group]] = field(default_factory=dict, init=False, compare=False)  # by R

    def apply(self, x: Tensor, output: Tensor, run: Pass) -> Tensor:
        """``output`` with the experts' parts added."""
        if len(x) not in self._groups:
            self._groups[len(x)] = self.groups(run.copies, x)
        for group in self._groups[len(x)]:
            output = group.add(x, output)
        return output

    def groups(self, copies: int, like: Tensor) -> list[Group]:
        """Groups of the low-rank experts and of the others; ``like`` has the dtype, and a prompt ``copies`` rows."""
        members: dict[str, list[int]] = {}
        for prompt, id in enumerate(self.of):
            if id is not None:
                members.setdefault(id, []).extend(range(prompt * copies, (prompt + 1) * copies))
        low_rank = [id for id in members if self.experts[id].kind == "lowrank"]
        full = [id for id in members if self.experts[id].kind != "lowrank"]
        made = []
        if low_rank:
            left, right = zip(*(self.experts[id].factors(like.dtype) for id in low_rank), strict=True)
            made.append(_group((_padded(right), _padded(left).mT), [members[id] for id in low_rank]))
        if full:
            deltas = torch.stack([self.experts[id].delta(like.dtype) for id in full])
            made.append(_group((deltas.mT,), [members[id] for id in full]))
        return made


def _padded(factors: Sequence[Tensor]) -> Tensor:
    """(E, ·, r) factors (·, rank) of low-rank experts, padded with zeros to the largest rank."""
    rank = max(factor.shape[1] for factor in factors)
    return torch.stack([torch.nn.functional.pad(factor, (0, rank - factor.shape[1])) for factor in factors])


def _group(weights: tuple[Tensor, ...], members: list[list[int]]) -> Group:
    """Rows by expert, padded to as many as the most popular expert has."""
    places = max(len(rows) for rows in members)
    gather = [row for rows in members for row in [*rows, *[0] * (places - len(rows))]]
    kept = [e * places + i for e, rows in enumerate(members) for i in range(len(rows))]
    tensors = (torch.tensor(t, device=weights[0].device) for t in (gather, kept, [r for rows in members for r in rows]))
    return Group(weights, *tensors)
