"""Memory of the keys of earlier edits, by layer: M = Σ KKᵀ, kept as factors while they are fewer than d_ff / 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from editbench.locate_then_edit.solver import KeySolver


BATCHES = "batches"
ELSEWHERE = -1  # batch of keys that came with a state, and are in no batch of the ledger


class KeyMemory:
    """Adds keys to each layer's :class:`KeySolver` (λC + M), and forgets those whose batch the ledger rolls back."""

    def __init__(self, key_solvers: dict[int, KeySolver]) -> None:
        self.key_solvers = key_solvers
        # by remembered batch: batches in the ledger before it, factors after it; (…, 0) for the last compacted one
        self.batches: list[tuple[int, int]] = []

    def add(self, keys: Mapping[int, Tensor], ledger_length: int) -> None:
        """Remember a batch's keys, K (d_ff, n) by layer."""
        for layer, solver in self.key_solvers.items():
            solver.add(keys[layer])
        self.batches.append((ledger_length, self._factors()))

    def catch_up(self, ledger_length: int) -> None:
        """Forget batches that the ledger has rolled back, then compact the factors once they are d_ff / 2 or more."""
        self.forget(ledger_length)
        if any(solver.full for solver in self.key_solvers.values()):
            for solver in self.key_solvers.values():
                solver.compact()
            self.batches = [(self.batches[-1][0], 0)]

    def forget(self, ledger_length: int) -> None:
        """Forget batches that the ledger has rolled back; a ValueError if they are compacted."""
        stay = len(self.batches)
        while stay and self.batches[stay - 1][0] >= ledger_length:
            stay -= 1
        if stay < len(self.batches):
            if self.batches[stay][1] == 0:
                raise ValueError(
                    "edits were rolled back that the memory of earlier keys cannot forget one by one any more; "
                    "restore the state that was saved with them"
                )
            del self.batches[stay:]
            for solver in self.key_solvers.values():
                solver.forget(self.batches[-1][1] if self.batches else 0)

    def clear(self) -> None:
        """Forget every batch."""
        self.forget(ELSEWHERE)

    def tensors(self) -> Iterator[Tensor]:
        """Covariance, keys and factors of every layer."""
        for solver in self.key_solvers.values():
            yield from solver.tensors()

    def state(self, ledger_length: int) -> dict[str, Tensor]:
        """All keys and batches but those that the ledger has rolled back; empty if nothing is remembered."""
        self.forget(ledger_length)
        if not self.batches:
            return {}
        solvers = self.key_solvers.items()
        state = {f"{layer}.{name}": tensor for layer, solver in solvers for name, tensor in solver.state().items()}
        return {BATCHES: torch.tensor(self.batches), **state}

    def restore(self, state: Mapping[str, Tensor], ledger_length: int) -> None:
        """Restore a saved state, bit for bit.

        Keys of a longer stream than the ledger's are of another one: they stay whatever this ledger rolls back.
        """
        wanted = {f"{layer}.keys" for layer in self.key_solvers} | {BATCHES}
        if not wanted <= set(state):
            raise ValueError(
                f"this is no memory of keys of layers {sorted(self.key_solvers)}: it holds {sorted(state)}"
            )
        batches = [(int(a), int(b)) for a, b in state[BATCHES].tolist()]
        foreign = batches[-1][0] >= ledger_length
        self.batches = [(ELSEWHERE, batches[-1][1])] if foreign else batches
        for layer, solver in self.key_solvers.items():
            solver.restore({name: state[f"{layer}.{name}"] for name in ("keys", "base") if f"{layer}.{name}" in state})

    def _factors(self) -> int:
        return max(solver.keys.shape[1] for solver in self.key_solvers.values())
