"""Routing: an expert is chosen for each prompt at its last token, and answers the whole sequence.

Shapes: R rows of a forward pass, T columns, E different experts, g rows of the most popular one. In generation with
beams or several returned sequences R is a multiple k of the number of prompts, the copies of a prompt side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

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


class HeldRouting:
    """Chooses an expert for each prompt in the first forward pass and keeps it for the rest of the sequence."""

    def __init__(self, columns: Sequence[int], choose: Callable[[Tensor], Routing]) -> None:
        """``columns`` of the prompts' last tokens are negative without a prompt; ``choose`` gets x (prompts, d_ff)."""
        self.columns = list(columns)
        self._choose = choose
        self._handles: list[Any] = []
        self._passes: tuple[int, int] = (0, 0)  # R, T
        self._routing: Routing | None = None
        self._groups: dict[int, list[Group]] = {}  # by R

    @property
    def answered_by(self) -> list[str | None]:
        """Edit that answers each prompt; None for the base model, and before the first pass."""
        return [None] * len(self.columns) if self._routing is None else self._routing.of

    def attach(self, layer: nn.Module, projection: nn.Module) -> None:
        """Hook ``projection``, and ``layer`` for the size of a batch, which some models flatten inside."""
        self._handles = [layer.register_forward_pre_hook(self._measure), projection.register_forward_hook(self._answer)]

    def detach(self) -> None:
        """Remove the hooks, if they are still there."""
        while self._handles:
            self._handles.pop().remove()

    def _measure(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows, columns = args[0].shape[:2]
        if rows % len(self.columns):
            raise ValueError(
                f"the model got {rows} rows; answering() was given the last prompt columns of {len(self.columns)}"
            )
        self._passes = rows, columns

    def _answer(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        rows, columns = self._passes
        x = args[0].reshape(rows, columns, -1)
        if self._routing is None:
            self._routing = self._decide(x)
            if not self._routing.any:
                self.detach()  # no neuron fires: the base model answers
        if not self._routing.any:
            return None
        if rows not in self._groups:
            self._groups[rows] = self._routing.groups(rows // len(self.columns), x)
        whole = output.reshape(rows, columns, -1)
        for group in self._groups[rows]:
            whole = group.add(x, whole)
        return whole.reshape(output.shape)

    @torch.no_grad()
    def _decide(self, x: Tensor) -> Routing:
        if max(self.columns) >= x.shape[1]:
            raise ValueError(
                f"column {max(self.columns)} of the last prompt token is not in the first forward pass, which has "
                f"{x.shape[1]} columns; give the whole prompt at once"
            )
        first = torch.arange(0, len(x), len(x) // len(self.columns), device=x.device)
        routes = self._choose(x[first, torch.tensor(self.columns, device=x.device).clamp(min=0)])
        return Routing([None if c < 0 else e for c, e in zip(self.columns, routes.of, strict=True)], routes.experts)


@dataclass(frozen=True)
class Routing:
    """Experts by edit id, and ``of`` each prompt the id that answers; None for the base model."""

    of: list[str | None]
    experts: Mapping[str, CompressedExpert]

    @property
    def any(self) -> bool:
        """Whether any expert answers."""
        return any(id is not None for id in self.of)

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
