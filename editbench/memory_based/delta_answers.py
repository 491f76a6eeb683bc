"""Answers that add x Dᵀ to a projection's output, with another D for each row, by grouped products.

Shapes: R rows of a forward pass, T columns, E different D, g rows of the most popular one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .routing import Answer, Pass

if TYPE_CHECKING:
    from .compression import CompressedDelta


@dataclass(frozen=True)
class Group:
    """Several D of one form and the rows that they answer, for one grouped product.

    Attributes:
        weights: Factors of Dᵀ, each (E, ·, ·): two for low-rank ones, else one.
        gather: (E · g,) rows by D, padded with row 0.
        kept: (F,) places in ``gather`` that are not padding.
        rows: (F,) rows in these places.
    """

    weights: tuple[Tensor, ...]
    gather: Tensor
    kept: Tensor
    rows: Tensor

    def add(self, x: Tensor, output: Tensor) -> Tensor:
        """``output`` (R, T, d) of the base weight plus x Dᵀ for x (R, T, d_in)."""
        y = x[self.gather].reshape(len(self.weights[0]), -1, x.shape[-1])  # (E, g · T, d_in)
        for weight in self.weights:
            y = y @ weight
        y = y.reshape(len(self.gather), *output.shape[1:])[self.kept]  # (F, T, d)
        return output.index_add(0, self.rows, y.to(output.dtype))


@dataclass(frozen=True)
class DeltaAnswers(Answer):
    """The D of each edit that answers, by name, for each module that answers."""

    deltas: Sequence[Mapping[str, CompressedDelta]]
    _groups: dict[tuple[int, int], list[Group]] = field(default_factory=dict, init=False, compare=False)

    def apply(self, x: Tensor, output: Tensor, run: Pass) -> Tensor:
        """``output`` with x Dᵀ added."""
        key = len(x), run.place
        if key not in self._groups:
            self._groups[key] = self._grouped(run, x)
        for group in self._groups[key]:
            output = group.add(x, output)
        return output

    def _grouped(self, run: Pass, like: Tensor) -> list[Group]:
        """Groups of the low-rank D and of the others; ``like`` has the dtype."""
        deltas, members = self.deltas[run.place], dict[str, list[int]]()
        for prompt, name in enumerate(self.of):
            if name is not None:
                members.setdefault(name, []).extend(range(prompt * run.copies, (prompt + 1) * run.copies))
        low_rank = [name for name in members if deltas[name].kind == "lowrank"]
        full = [name for name in members if deltas[name].kind != "lowrank"]
        made = []
        if low_rank:
            left, right = zip(*(deltas[name].factors(like.dtype) for name in low_rank), strict=True)
            made.append(_group((_padded(right), _padded(left).mT), [members[name] for name in low_rank]))
        if full:
            whole = torch.stack([deltas[name].delta(like.dtype) for name in full])
            made.append(_group((whole.mT,), [members[name] for name in full]))
        return made


def _padded(factors: Sequence[Tensor]) -> Tensor:
    """(E, ·, r) factors (·, rank), padded with zeros to the largest rank."""
    rank = max(factor.shape[1] for factor in factors)
    return torch.stack([torch.nn.functional.pad(factor, (0, rank - factor.shape[1])) for factor in factors])


def _group(weights: tuple[Tensor, ...], members: list[list[int]]) -> Group:
    """Rows by D, padded to as many as the most popular one has."""
    places = max(len(rows) for rows in members)
    gather = [row for rows in members for row in [*rows, *[0] * (places - len(rows))]]
    kept = [e * places + i for e, rows in enumerate(members) for i in range(len(rows))]
    tensors = (torch.tensor(t, device=weights[0].device) for t in (gather, kept, [r for rows in members for r in rows]))
    return Group(weights, *tensors)
