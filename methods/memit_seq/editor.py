"""MEMIT_seq: MEMIT that also holds on to the keys of earlier edits.

A baseline in the code of Fang et al., "AlphaEdit: Null-Space Constrained Knowledge Editing for Language Models", ICLR
2025: Δ = R Kᵀ (λC + M + K Kᵀ)⁻¹, M = Σ KKᵀ over the keys of earlier edits.
"""

from __future__ import annotations

from editbench.locate_then_edit.editor import CovarianceEditor

from .config import MEMITSeqConfig


class MEMITSeq(CovarianceEditor[MEMITSeqConfig]):
    """Edits a batch at once and remembers its keys, as they are on the weights that the batch leaves."""

    title = "MEMIT_seq"
    paper = "Fang et al., ICLR 2025 (arXiv 2410.02355), a baseline"
    config_class = MEMITSeqConfig
    remembers = True
