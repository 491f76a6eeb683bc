"""RECT: of MEMIT's update only the relatively largest changes are written.

Gu et al., "Model Editing Harms General Abilities of Large Language Models: Regularization to the Rescue", EMNLP 2024:
ΔW is cut to the entries with the largest relative change |ΔW / W|, k percent of each weight.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.ledger import Dense, LowRank
from editbench.locate_then_edit.editor import CovarianceEditor
from editbench.locate_then_edit.multi_layer import EditKeys, write_layers
from editbench.model.devices import in_float64
from editbench.room import of_changes

from .config import RECTConfig

if TYPE_CHECKING:
    from editbench.ledger import Transaction
    from editbench.model.shape import Shape
    from editbench.room import Room, Workload

EPSILON = 1e-8  # added to |W|


class RECT(CovarianceEditor[RECTConfig]):
    """Edits a batch at once, as MEMIT, and writes a part of it."""

    title = "RECT"
    paper = "Gu et al., EMNLP 2024 (arXiv 2401.04700)"
    config_class = RECTConfig

    @classmethod
    def room(cls, config: RECTConfig, shape: Shape, work: Workload) -> Room:
        """As MEMIT's, with the whole update of each layer, in float64, and its copies; what is kept of it is dense."""
        room, sizes = super().room(config, shape, work), [shape.weight(layer) for layer in config.layers]
        dense = of_changes(sizes, shape, work, sum(sizes) * shape.of_an_edited, dense=True)
        updates = 8 * (sum(sizes) + 3 * max(sizes))
        return replace(room, editing=max(room.editing, updates + dense.editing), disk=dense.disk)

    def write_targets(self, edits: EditKeys, targets: Tensor, transaction: Transaction) -> None:
        """Write the whole updates for a trial, then of each layer's only the part that stays."""
        if self.config.remeasure:
            write_layers(edits, targets, self.solve, self.lm, transaction, self._cut)
            return
        updates: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
        begun = len(transaction.changes)
        with transaction.trial():
            write_layers(edits, targets, self.solve, self.lm, transaction)
            for change in transaction.changes[begun:]:
                assert isinstance(change, LowRank)
                updates[change.weight] = updates[change.weight] + _product(change)
        edits.changed(edits.layers[0])
        for name, update in updates.items():
            weight = self.lm.weight(name)
            transaction.apply(Dense(name, self._cut(weight.to(update.device), update).to(weight.dtype)))

    def _cut(self, weight: Tensor, update: Tensor) -> Tensor:
        return largest_changes(weight, update, self.config.kept_percent)


def _product(change: LowRank) -> Tensor:
    """(out, in), float64."""
    return in_float64(change.left) @ in_float64(change.right).T


def largest_changes(weight: Tensor, update: Tensor, percent: float) -> Tensor:
    """ΔW (out, in), zero where |ΔW| / (|W| + 1e-8) is below its q-th smallest number, q = size · (100 - percent) / 100.

    So ``percent`` of the numbers stay, and up to two more: q is rounded down, and the q-th number itself stays.
    """
    change = update.abs() / (weight.to(update.dtype).abs() + EPSILON)
    q = int(change.numel() * (100 - percent) / 100)
    if q == 0:
        return update
    threshold = change.flatten().kthvalue(q).values
    return torch.where(change >= threshold, update, torch.zeros_like(update))
