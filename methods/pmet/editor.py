"""PMET: values of attention and MLP are found together, and only the MLP's are written.

Li et al., "PMET: Precise Model Editing in a Transformer", AAAI 2024: the hidden states of both parts of the last edited
layer are optimised at once, so that the MLP's need not hold what the attention can give; the MLPs' second projections
then take the MLP's value, a layer R / √(layers left) of what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.ledger import LowRank
from editbench.locate_then_edit.editor import CovarianceEditor
from editbench.locate_then_edit.multi_layer import EditKeys, solved
from editbench.locate_then_edit.shifted_forward import AT_PARTS
from editbench.locate_then_edit.values import optimise_values
from editbench.records import EditRequest

from .config import PMETConfig

if TYPE_CHECKING:
    from editbench.editor import EditResult
    from editbench.ledger import Transaction


class PMET(CovarianceEditor[PMETConfig]):
    """Edits a batch at once; C and the context templates are those of the unedited model."""

    title = "PMET"
    paper = "Li et al., AAAI 2024 (arXiv 2308.08742)"
    config_class = PMETConfig

    def values(self, batch: Sequence[EditRequest], result: EditResult) -> Tensor:
        """Goals (d, n) for the last edited MLP's output; those of the attention are left out."""
        assert self.templates is not None
        found = optimise_values(self.lm, batch, self.templates, self.config.layers[-1], AT_PARTS, self.config)
        result.losses.update({r.id: [terms[0] for terms in v.losses] for r, v in zip(batch, found, strict=True)})
        return torch.stack([value.target[1] for value in found], dim=1)

    def write_targets(self, edits: EditKeys, targets: Tensor, transaction: Transaction) -> None:
        """Write the goals over the layers; a norm behind the MLP comes after them and does not matter."""
        layers = self.config.layers
        for done, layer in enumerate(layers):
            outputs, keys = edits.mlp(), edits.at(layer).keys
            residual = (targets.to(outputs) - outputs) / (len(layers) - done) ** 0.5  # (d, n)
            right = solved(edits, layer, keys, self.solve).to(residual)
            transaction.apply(LowRank(self.lm.mlp_out_name(layer), residual, right))
            edits.changed(layer)
