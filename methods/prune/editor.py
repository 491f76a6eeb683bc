"""PRUNE: MEMIT's edits, and a bound on the singular values of their sum once the stream has ended.

Ma et al., "Perturbation-Restrained Sequential Model Editing", ICLR 2025: the total change D = U S Vᵀ of a weight W is
replaced by U S' Vᵀ, in which singular values s above the largest one m of W become log s - log m + m.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.ledger import Change, Dense, LowRank
from editbench.locate_then_edit.editor import CovarianceEditor
from editbench.model.devices import device_with_room, in_float64

from .config import PRUNEConfig

if TYPE_CHECKING:
    from editbench.editor import EditResult
    from editbench.ledger import Transaction
    from editbench.model.shape import Shape
    from editbench.room import Room, Workload

DECOMPOSED = 4  # matrices of a weight's size: the sum, its vectors, and room to work


class PRUNE(CovarianceEditor[PRUNEConfig]):
    """Edits a batch at once, as MEMIT; the model of the stream itself is not restrained before it ends."""

    title = "PRUNE"
    paper = "Ma et al., ICLR 2025 (arXiv 2405.16821)"
    config_class = PRUNEConfig

    @classmethod
    def settled_after(cls, config: PRUNEConfig, edits: int) -> bool:
        """No: the end of a shorter stream has changed the model."""
        return False

    @classmethod
    def room(cls, config: PRUNEConfig, shape: Shape, work: Workload) -> Room:
        """As MEMIT's; at the end a layer's sum of changes is decomposed, in float64."""
        room, largest = super().room(config, shape, work), max(shape.weight(layer) for layer in config.layers)
        return replace(room, editing=max(room.editing, 8 * DECOMPOSED * largest))

    def conclude(self, transaction: Transaction, result: EditResult) -> None:
        """Restrain the change of every layer since the stream began."""
        names = {layer: self.lm.mlp_out_name(layer) for layer in self.config.layers}
        with self.ledger.pristine():
            bounds = {layer: float(torch.linalg.matrix_norm(self._weight(n), 2)) for layer, n in names.items()}
        result.details["pruned"] = {
            str(layer): self._restrain(name, bounds[layer], transaction) for layer, name in names.items()
        }

    def _restrain(self, name: str, bound: float, transaction: Transaction) -> dict[str, Any]:
        """Apply the change that restrains a weight; facts for the record."""
        total = self.ledger.delta(name)
        total = total.to(device_with_room(self.lm.weight(name).device, 4 * total.nbytes))
        left, values, right = torch.linalg.svd(total, full_matrices=False)  # (out, r), (r), (r, in)
        small = restrained(values, bound, self.config.log_base)
        above = int((values > bound).sum())  # values fall
        if self.config.mode == "published":
            change: Change = Dense(name, ((left * small) @ right).to(self.lm.weight(name).dtype))
        else:
            change = LowRank(name, left[:, :above] * (small - values)[:above], right[:above].T)
        if above or self.config.mode == "published":
            transaction.apply(change)
        return {"bound": bound, "above": above, "largest": float(values[0]), "becomes": float(small[0])}

    def _weight(self, name: str) -> Tensor:
        return in_float64(self.lm.weight(name).detach())


def restrained(values: Tensor, bound: float, base: float) -> Tensor:
    """Singular values s (r), those above m = ``bound`` as log s - log m + m; continuous, with slope 1 / (m ln base)."""
    logarithms = (values.clamp(min=bound).log() - math.log(bound)) / math.log(base) + bound
    return torch.where(values > bound, logarithms, values)
