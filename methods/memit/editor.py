"""MEMIT: one update of several MLPs for many facts.

Meng et al., "Mass-Editing Memory in a Transformer", ICLR 2023: Δ = R Kᵀ (λC + K Kᵀ)⁻¹ (equation 14), layer by layer
(algorithm 1).
"""

from __future__ import annotations

from editbench.locate_then_edit.editor import CovarianceEditor

from .config import MEMITConfig


class MEMIT(CovarianceEditor[MEMITConfig]):
    """Edits a batch at once; C and the context templates are those of the unedited model."""

    title = "MEMIT"
    paper = "Meng et al., ICLR 2023 (arXiv 2210.07229)"
    config_class = MEMITConfig
