"""MEMIT: one update of several MLPs for many facts.

Meng et al., "Mass-Editing Memory in a Transformer", ICLR 2023: Δ = R Kᵀ (λC + K Kᵀ)⁻¹ (equation 14), layer by layer
(algorithm 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from editbench.editor import Capabilities, EditResult, Footprint
from editbench.locate_then_edit.editor import SubjectEditor
from editbench.locate_then_edit.multi_layer import EditKeys, key_solvers, multi_layer_templates, write_layers
from editbench.locate_then_edit.shifted_forward import AT_LAYER
from editbench.locate_then_edit.solver import FullSolver, KeySolver
from editbench.locate_then_edit.values import optimise_values
from editbench.records import EditRequest

from .config import MEMITConfig

if TYPE_CHECKING:
    from editbench.ledger import Transaction


class MEMIT(SubjectEditor[MEMITConfig]):
    """Edits a batch at once; C and the context templates are those of the unedited model."""

    title = "MEMIT"
    paper = "Meng et al., ICLR 2023 (arXiv 2210.07229)"
    config_class = MEMITConfig
    capabilities = Capabilities(needs_subject=True)

    _solvers: dict[int, KeySolver] | None = None

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Make the templates and the covariance from the unedited model."""
        if self._solvers is None:
            with self.ledger.pristine():
                self.templates = multi_layer_templates(self.lm, self.config, self.resources)
                self._solvers = key_solvers(self.lm, self.config, self.resources, FullSolver)

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Optimise the values on the current weights, then write them over the layers."""
        self.prepare(batch)
        assert self.templates is not None and self._solvers is not None
        lm, layers, solvers = self.lm, self.config.layers, self._solvers
        values = optimise_values(lm, batch, self.templates, layers[-1], AT_LAYER, self.config)
        targets = torch.stack([value.target for value in values], dim=1)  # (d, n)
        subjects = EditKeys.of(lm, batch, self.templates, layers)
        write_layers(subjects, targets, lambda layer, keys: solvers[layer].solve(keys), lm, transaction)
        result.losses.update({r.id: [terms[0] for terms in v.losses] for r, v in zip(batch, values, strict=True)})

    def footprint(self) -> Footprint:
        """The factors of the covariance; they do not grow with the edits."""
        return Footprint.of(solver.base for solver in (self._solvers or {}).values())
