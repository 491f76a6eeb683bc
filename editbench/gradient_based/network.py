"""The network of MEND and RLEdit: residual blocks of low rank over the rows [h, g] of an edited module.

Modules whose weights have one shape share a network, and are told apart by scale and shift (Mitchell et al., 2022,
section 3.2). Untrained it is the identity. Shapes: N rows, m = d_in + d_out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """One residual block for several modules; the non-linearity is max(·, 0).

    It is a clamp, whose gradient at exactly 0, where training starts, is 1: a ReLU's is 0, and would never learn.
    """

    def __init__(self, width: int, modules: int, rank: int, scale_inside: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.scale_inside = scale_inside
        self.A = nn.Parameter(torch.randn(width, rank, generator=generator))
        self.B = nn.Parameter(torch.zeros(rank, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(modules, width))
        self.shift = nn.Parameter(torch.zeros(modules, width))

    def forward(self, y: Tensor, module: int) -> Tensor:
        """Rows (N, m) of the module of this number, transformed."""
        u, scale, shift = y @ self.A @ self.B + self.bias, self.scale[module], self.shift[module]
        return y + ((scale * u + shift).clamp(min=0) if self.scale_inside else scale * u.clamp(min=0) + shift)


class ShapeNetwork(nn.Module):
    """The network of the modules of one shape, with a learning rate and the logarithm of a ridge for each."""

    def __init__(
        self, width: int, modules: int, rank: int, blocks: int, learning_rate: float, inside: bool, ridge: bool
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.blocks = nn.ModuleList(Block(width, modules, rank, inside, generator) for _ in range(blocks))
        self.learning_rate = nn.Parameter(torch.full((modules,), learning_rate))
        self.log_ridge = nn.Parameter(torch.zeros(modules)) if ridge else None

    def forward(self, y: Tensor, module: int) -> Tensor:
        """Rows (N, m) through all blocks."""
        for block in self.blocks:
            y = block(y, module)
        return y


class EditNetwork(nn.Module):
    """The networks of all shapes.

    Attributes:
        place: Shape of each module, and its number among those of the shape.
    """

    def __init__(
        self,
        shapes: Mapping[str, str],
        *,
        rank: int,
        blocks: int,
        learning_rate: float,
        scale_inside: bool,
        ridge: bool,
    ) -> None:
        """An untrained network. ``shapes`` is "d_inxd_out" by module, ``scale_inside`` that of the non-linearity."""
        super().__init__()
        members: dict[str, list[str]] = {}
        for name, shape in shapes.items():
            members.setdefault(shape, []).append(name)
        self.place = {name: (shape, i) for shape, names in members.items() for i, name in enumerate(names)}
        self.shapes = nn.ModuleDict(
            {
                shape: ShapeNetwork(
                    sum(map(int, shape.split("x"))), len(names), rank, blocks, learning_rate, scale_inside, ridge
                )
                for shape, names in members.items()
            }
        )

    def forward(self, name: str, rows: Tensor) -> Tensor:
        """Rows (N, m) of a module, transformed."""
        shape, i = self.place[name]
        out: Tensor = self.shapes[shape](rows.to(self.device), i)
        return out.to(rows.device)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.parameters()).device

    def learning_rate(self, name: str) -> Tensor:
        """() the module's learning rate."""
        shape, i = self.place[name]
        rates: Tensor = self.shapes[shape].learning_rate  # type: ignore[assignment]
        return rates[i]

    def ridge(self, name: str) -> Tensor:
        """() the module's ridge."""
        shape, i = self.place[name]
        logarithms: Tensor = self.shapes[shape].log_ridge  # type: ignore[assignment]
        return logarithms[i].exp()
