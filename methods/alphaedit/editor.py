"""AlphaEdit: MEMIT's edits within the null space of what the model is asked otherwise.

Fang et al., "AlphaEdit: Null-Space Constrained Knowledge Editing for Language Models", ICLR 2025: with P the projection
onto the null space of C, Δ = R Kᵀ P (M P + K Kᵀ P + l2 I)⁻¹, M = Σ KKᵀ over the keys of earlier edits.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.locate_then_edit.editor import MultiLayerEditor
from editbench.locate_then_edit.multi_layer import covariances
from editbench.locate_then_edit.room import of_covariance, of_layers
from editbench.locate_then_edit.solver import SOLVE_DTYPES, KeySolver
from editbench.records import EditRequest

from .config import AlphaEditConfig
from .null_space import NullSpace, NullSpaceSolver, null_space

if TYPE_CHECKING:
    from editbench.editor import EditResult
    from editbench.ledger import Transaction
    from editbench.model.shape import Shape
    from editbench.room import Room, Workload

_log = logging.getLogger(__name__)

DECOMPOSED = 4.0  # matrices beside those kept, while one is decomposed: the vectors, and room to work
COVARIANCE = "covariance"  # in the saved state: digests of C, by layer


class AlphaEdit(MultiLayerEditor[AlphaEditConfig]):
    """Edits a batch at once and remembers its keys; P and the context templates are those of the unedited model."""

    title = "AlphaEdit"
    paper = "Fang et al., ICLR 2025 (arXiv 2410.02355)"
    config_class = AlphaEditConfig
    remembers = True

    spaces: dict[int, NullSpace]

    def key_solvers(self) -> dict[int, KeySolver]:
        """Systems within the null space of C, which need no room of d_ff² numbers; C itself is not kept."""
        c, dtype = self.config, SOLVE_DTYPES[self.config.solve_dtype]
        given = covariances(self.lm, c, self.resources)
        self.spaces = {layer: null_space(matrix, c.nullspace_threshold, self.resources) for layer, matrix in given}
        for layer, space in self.spaces.items():
            if space.share in (0.0, 1.0):
                meaning = "no edit can be written" if space.share == 0 else "nothing is protected"
                _log.warning(
                    "%.0f %% of the directions of layer %d are below nullspace_threshold=%g: %s",
                    *(100 * space.share, layer, c.nullspace_threshold, meaning),
                )
        return {layer: NullSpaceSolver(s, c.l2, f"layer {layer}", dtype) for layer, s in self.spaces.items()}

    @classmethod
    def room(cls, config: AlphaEditConfig, shape: Shape, work: Workload) -> Room:
        """A basis of each layer, of half its directions at most; before, one covariance is decomposed after another."""
        room = of_layers(shape, work, config, at_once=work.batch, remembers=True, matrices=0.5)
        taken = of_covariance(shape, config.layers)
        decomposed = taken.cache + round(DECOMPOSED * max(map(shape.covariance, config.layers)))
        return replace(room, preparing=max(taken.preparing, decomposed), cache=taken.cache + taken.cache // 2)

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """As MEMIT, within the null space; the share of directions that it has goes to the result."""
        super().write(batch, transaction, result)
        result.details["null_space"] = {str(layer): space.share for layer, space in self.spaces.items()}

    def state(self) -> dict[str, Tensor]:
        """The keys of earlier edits, and digests of the covariance by which they were projected."""
        state = super().state()
        return {**state, COVARIANCE: self._digests()} if state else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the memory by a saved one; a ValueError if its keys were projected by another covariance."""
        if state:
            self.prepare([])
            if not torch.equal(state.get(COVARIANCE, self._digests()[:0]), self._digests()):
                raise ValueError("the saved keys were projected by another covariance than this one; start again")
        super().restore({name: tensor for name, tensor in state.items() if name != COVARIANCE})

    def _digests(self) -> Tensor:
        """(layers, 16) bytes."""
        return torch.tensor([list(bytes.fromhex(space.digest)) for space in self.spaces.values()], dtype=torch.uint8)
