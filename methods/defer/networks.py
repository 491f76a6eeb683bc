"""The two networks of Defer, and their training on a batch of edits.

Shapes: B edits, N irrelevant prompts, r hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from editbench.memory_based.low_rank_block import added, initial_factors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from editbench.memory_based.projection import Projection
    from editbench.memory_based.target_rows import TargetRows

    from .config import DeferConfig


@dataclass(frozen=True)
class Networks:
    """Side network x ↦ x A B and gate x ↦ σ(w · x / ‖x‖ + b).

    Attributes:
        a: (d_in, r).
        b: (r, d_out).
        gate: (d_in + 1,) w, and b last.
    """

    a: Tensor
    b: Tensor
    gate: Tensor

    @classmethod
    def initial(cls, at: Projection, width: int, seed: int, like: Tensor) -> Networks:
        """A side network that adds nothing, and a gate that knows nothing."""
        a, b = initial_factors(at, width, seed, "side network", like)
        return cls(a, b, a.new_zeros(at.d_in + 1))

    @classmethod
    def of(cls, state: Mapping[str, Tensor], like: Networks) -> Networks:
        """The networks that :attr:`tensors` names; a ValueError if they are not of the shapes of ``like``."""
        if {name: t.shape for name, t in state.items()} != {name: t.shape for name, t in like.tensors.items()}:
            shapes = {name: tuple(t.shape) for name, t in state.items()}
            raise ValueError(f"this is not the state of a gate and a side network of this layer and width: {shapes}")
        return cls(**{name: state[name].to(own) for name, own in like.tensors.items()})

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The parts by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    def opens(self, x: Tensor) -> Tensor:
        """(B,) what the gate says to inputs x (B, d_in), between 0 and 1."""
        return _logits(self.gate, x).sigmoid()


def _logits(gate: Tensor, x: Tensor) -> Tensor:
    return normalize(x.to(gate.dtype), dim=-1) @ gate[:-1] + gate[-1]


def train(
    networks: Networks, at: Projection, data: TargetRows, irrelevant: Tensor, config: DeferConfig
) -> tuple[Networks, Tensor]:
    """Adam on both networks: the answers' mean NLL, and the gate's cross-entropy on edits and irrelevant prompts.

    Args:
        networks: Where they start.
        data: Rows of the edits.
        irrelevant: (N, d_in) inputs at the ends of the irrelevant prompts.

    Returns:
        The networks, which may be NaN or infinite, and each edit's loss before each step (steps, B).
    """
    a, b, gate = (part.clone().requires_grad_(True) for part in networks.tensors.values())
    rates = [
        {"params": [a, b], "lr": config.learning_rate},
        {"params": [gate], "lr": config.gate_learning_rate},
    ]
    optimiser = torch.optim.Adam(rates, fused=True)
    losses = []
    with torch.enable_grad():
        for _ in range(config.steps):
            answer = data.nll(added(at.module, a, b, 1.0))[0].to(gate.device)  # (B,)
            opened = softplus(-_logits(gate, data.at_prompt))  # (B,) −log g(x)
            closed = softplus(_logits(gate, irrelevant)).mean()  # −log(1 − g(x))
            losses.append((answer + opened + closed).detach())
            optimiser.zero_grad()
            torch.autograd.backward((answer + opened).mean() + closed)
            optimiser.step()
    return Networks(a.detach(), b.detach(), gate.detach()), torch.stack(losses)
