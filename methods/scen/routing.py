"""Inference: which expert answers a row is decided at its last prompt token, and holds for the whole sequence.

Shapes: R rows of a forward pass, T columns, E different experts, g rows of the most popular one. In generation with
beams or several returned sequences R is a multiple k of the number of prompts, the copies of a prompt side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from .compression import Packed


@dataclass(frozen=True)
class Group:
    """Experts of one form, and the rows that they answer, ready for one grouped product.

    Attributes:
        weights: Factors of the experts' Dᵀ, each (E, ·, ·): one for dense experts, two for low-rank ones.
        gather: (E · g,) rows by expert, each expert's filled up with row 0.
        kept: (F,) the places in ``gather`` that are not filling.
        rows: (F,) the rows in these places.
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
    """One use of the edited model: routes at the first forward pass, holds the routes for all later ones."""

    def __init__(self, columns: Sequence[int], choose: Callable[[Tensor], Routes]) -> None:
        """Wait for the first pass.

        Args:
            columns: For each prompt the column of its last token; negative where there is no prompt.
            choose: From x (prompts, d_ff) to the experts that answer.
        """
        self.columns = list(columns)
        self._choose = choose
        self._handles: list[Any] = []
        self._passes: tuple[int, int] = (0, 0)  # R, T
        self._routes: Routes | None = None
        self._groups: dict[int, list[Group]] = {}  # by R

    @property
    def answered_by(self) -> list[str | None]:
        """For each prompt the edit that answers, or None; nothing does before the first pass."""
        return [None] * len(self.columns) if self._routes is None else self._routes.of

    def attach(self, layer: nn.Module, projection: nn.Module) -> None:
        """Watch ``layer`` for the size of a batch (some models flatten it inside), and stand in at ``projection``."""
        self._handles = [layer.register_forward_pre_hook(self._measure), projection.register_forward_hook(self._answer)]

    def detach(self) -> None:
        """Leave the model as it was. Nothing if that was done."""
        while self._handles:
            self._handles.pop().remove()

    def _measure(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows, columns = args[0].shape[:2]
        if rows % len(self.columns):
            raise ValueError(
                f"the model was given {rows} rows; answering() was told the last prompt columns of {len(self.columns)}"
            )
        self._passes = rows, columns

    def _answer(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        rows, columns = self._passes
        x = args[0].reshape(rows, columns, -1)
        if self._routes is None:
            self._routes = self._decide(x)
            if not self._routes.any:
                self.detach()  # nothing fires: from now on the model is the base model
        if not self._routes.any:
            return None
        if rows not in self._groups:
            self._groups[rows] = self._routes.groups(rows // len(self.columns), x)
        whole = output.reshape(rows, columns, -1)
        for group in self._groups[rows]:
            whole = group.add(x, whole)
        return whole.reshape(output.shape)

    @torch.no_grad()
    def _decide(self, x: Tensor) -> Routes:
        if max(self.columns) >= x.shape[1]:
            raise ValueError(
                f"column {max(self.columns)} of the last prompt token is not in the first forward pass, which has "
                f"{x.shape[1]} columns; give the whole prompt at once"
            )
        first = torch.arange(0, len(x), len(x) // len(self.columns), device=x.device)
        routes = self._choose(x[first, torch.tensor(self.columns, device=x.device).clamp(min=0)])
        return Routes([None if c < 0 else e for c, e in zip(self.columns, routes.of, strict=True)], routes.experts)


@dataclass(frozen=True)
class Routes:
    """Which expert answers which prompt.

    Attributes:
        of: For each prompt an edit id, or None for the base model.
        experts: The experts, by edit id.
    """

    of: list[str | None]
    experts: Mapping[str, Packed]

    @property
    def any(self) -> bool:
        """Whether any expert answers."""
        return any(id is not None for id in self.of)

    def groups(self, copies: int, like: Tensor) -> list[Group]:
        """One group for the low-rank experts and one for the others, in the dtype and on the device of ``like``.

        Args:
            copies: Rows that each prompt has.
            like: Any tensor that the experts are to meet.
        """
        members: dict[str, list[int]] = {}
        for prompt, id in enumerate(self.of):
            if id is not None:
                members.setdefault(id, []).extend(range(prompt * copies, (prompt + 1) * copies))
        thin = [id for id in members if self.experts[id].kind == "lowrank"]
        full = [id for id in members if self.experts[id].kind != "lowrank"]
        made = []
        if thin:
            made.append(_group(_factors([self.experts[id] for id in thin], like), [members[id] for id in thin]))
        if full:
            deltas = torch.stack([self.experts[id].delta(like.dtype) for id in full])
            made.append(_group((deltas.mT,), [members[id] for id in full]))
        return made


def _factors(experts: Sequence[Packed], like: Tensor) -> tuple[Tensor, Tensor]:
    """R (E, d_ff, r) and Lᵀ (E, r, d) of low-rank experts, filled up with zeros to the largest rank."""
    pairs = [expert.factors(like.dtype) for expert in experts]
    rank = max(left.shape[1] for left, _ in pairs)
    left, right = (
        torch.stack([torch.nn.functional.pad(pair[side], (0, rank - pair[side].shape[1])) for pair in pairs])
        for side in (0, 1)
    )
    return right, left.mT


def _group(weights: tuple[Tensor, ...], members: list[list[int]]) -> Group:
    """Lay out the rows of each expert; all experts get as many places as the most popular one needs."""
    places = max(len(rows) for rows in members)
    gather = [row for rows in members for row in [*rows, *[0] * (places - len(rows))]]
    kept = [e * places + i for e, rows in enumerate(members) for i in range(len(rows))]
    tensors = (torch.tensor(t, device=weights[0].device) for t in (gather, kept, [r for rows in members for r in rows]))
    return Group(weights, *tensors)
