"""EMMET: a batch of edits as equality constraints.

Gupta et al., "A Unified Framework for Model Editing", Findings of EMNLP 2024: the ΔW that gives every edit its value,
(W + ΔW) K = V, and changes the outputs for other keys least, is Δ = R (Kᵀ C⁻¹ K)⁻¹ Kᵀ C⁻¹. It is ROME's update for a
batch, and with 1 on the diagonal of Kᵀ (λC)⁻¹ K it is MEMIT's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from editbench.locate_then_edit.editor import MultiLayerEditor
from editbench.locate_then_edit.multi_layer import key_solvers
from editbench.locate_then_edit.solver import FullSolver, KeySolver, SingularError, cholesky

from .config import EMMETConfig

ALIKE = "the matrix of the batch's keys, of which some are alike (set key_ridge),"


class EqualitySolver(FullSolver):
    """(λC)⁻¹ K (Kᵀ (λC)⁻¹ K + ridge I)⁻¹; ``base`` is the Cholesky factor of λC."""

    key_ridge = 0.0

    def solve(self, keys: Tensor, index: Tensor | None = None) -> Tensor:
        """As :meth:`KeySolver.solve`; equal keys (two edits of one subject) cannot have a value each."""
        assert index is None
        whitened = self._form(keys)  # (d_ff, n)
        inner = whitened.T @ whitened
        inner.diagonal().add_(self.key_ridge)
        lower = cholesky(inner, ALIKE)
        if float(lower.diagonal().min() / lower.diagonal().max()) ** 2 <= len(inner) * torch.finfo(inner.dtype).eps:
            raise SingularError(f"{ALIKE} ({len(inner)}×{len(inner)}) is not positive definite")
        return self._back(torch.cholesky_solve(whitened.T, lower).T)


class EMMET(MultiLayerEditor[EMMETConfig]):
    """Edits a batch at once; C and the context templates are those of the unedited model."""

    title = "EMMET"
    paper = "Gupta et al., Findings of EMNLP 2024 (arXiv 2403.14236)"
    config_class = EMMETConfig

    def key_solvers(self) -> dict[int, KeySolver]:
        """λC, factored once a layer."""
        solvers = key_solvers(self.lm, self.config, self.resources, EqualitySolver)
        for solver in solvers.values():
            assert isinstance(solver, EqualitySolver)
            solver.key_ridge = self.config.key_ridge
        return solvers
