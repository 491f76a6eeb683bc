"""Training of values: each stands for the projection's output at some tokens of its own edit, and of no other.

Given fixed keys, values of different entries are independent: many are trained together, with the sum of their losses.
Layers below the projection's are computed once.

Shapes: B edits, P tokens of all edits together.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.memory_based.target_rows import TargetRows, wide
from editbench.model.hooks import hooked

from .config import LAST, SOUND, WARM, WHOLE, GRACEConfig

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def replaced_tokens(columns: Tensor, ends: Tensor, replacement: str, rules: str) -> Tensor:
    """Bool, by column: whether a value replaces the output there, for prompts that end in columns ``ends``."""
    if replacement == WHOLE:
        return torch.ones_like(columns + ends, dtype=torch.bool)
    if replacement == LAST:
        return columns == ends
    return columns <= ends if rules == SOUND else columns < ends


def initial_values(data: TargetRows, names: list[str], seed: int, config: GRACEConfig) -> Tensor:
    """(B, d_out) starts of new values: "cold", U[0, 1) by seed and id of the edit; "warm", the layer's own output."""
    at = data.projection
    if config.value_init == WARM:
        with torch.no_grad():
            own = at.outputs(data.at_prompt)
        return own.to(wide(own.dtype))
    drawn = [torch.rand(at.d_out, generator=_generator(seed, name)) for name in names]
    return torch.stack(drawn).to(data.inputs.device, wide(data.inputs.dtype))


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def train_values(data: TargetRows, start: Tensor, config: GRACEConfig) -> tuple[Tensor, list[list[float]]]:
    """Adam on the values alone, all at once and independently, on the answer's mean NLL.

    Returns:
        Values (B, d_out), and per edit the loss before each step. They may be NaN or infinite.
    """
    values = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([values], lr=config.learning_rate, fused=True)
    owner, replaced = _tokens(data, config)
    losses = []
    with torch.enable_grad():
        for _ in range(config.steps):
            loss = data.nll(_with_values(data, values, owner, replaced))[0]
            losses.append(loss.detach())
            optimiser.zero_grad()
            torch.autograd.backward(loss.sum())
            optimiser.step()
    return values.detach(), torch.stack(losses, dim=1).tolist()


def _tokens(data: TargetRows, config: GRACEConfig) -> tuple[Tensor, Tensor]:
    """By token (P,): its edit, and whether the edit's value replaces the output there."""
    edits, columns, ends = zip(
        *(
            (edit, column, int(data.ends[edit]) - path[0])
            for edit, path in enumerate(data.tree.paths)
            for column in range(len(path))
        ),
        strict=True,
    )
    owner, column, end = (torch.tensor(t, device=data.inputs.device) for t in (edits, columns, ends))
    return owner, replaced_tokens(column, end, config.replacement, config.rules)


def _with_values(data: TargetRows, values: Tensor, owner: Tensor, replaced: Tensor) -> AbstractContextManager[None]:
    def put(output: Tensor) -> Tensor:
        own = values.to(output.dtype)[owner]  # (P, d_out)
        new = torch.where(replaced[:, None], own, data.tree.flat(output))
        return data.tree.laid_out(new).reshape(output.shape)

    return hooked(data.projection.module, put)
