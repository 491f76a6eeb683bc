"""MEMIT: one update of several MLPs for many facts.

Meng et al., "Mass-Editing Memory in a Transformer", ICLR 2023: Δ = R Kᵀ (λC + K Kᵀ)⁻¹ (equation 14), layer by layer
(algorithm 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from editbench.editor import Capabilities, Editor, EditReceipt, footprint_of
from editbench.locate_then_edit.multi_layer import Subjects, grams, spread, spread_templates
from editbench.locate_then_edit.prompts import edit_rows
from editbench.locate_then_edit.shifted_forward import AT_LAYER
from editbench.locate_then_edit.solver import WholeGram
from editbench.locate_then_edit.values import optimise_values

from .config import MEMITConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.editor import Footprint
    from editbench.ledger import Recording
    from editbench.locate_then_edit.solver import Gram
    from editbench.records import EditRequest


class MEMIT(Editor[MEMITConfig]):
    """Edits a batch at once; C and the context templates are those of the unedited model."""

    config_class = MEMITConfig
    capabilities = Capabilities(needs_subject=True)

    templates: list[str] | None = None
    _grams: dict[int, Gram] | None = None

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Make templates and second moments from the unedited model, if they are not there yet."""
        if self._grams is None:
            with self.ledger.pristine():
                self.templates = spread_templates(self.host, self.config, self.materials)
                self._grams = grams(self.host, self.config, self.materials, WholeGram)

    def rows(self, request: EditRequest) -> list[tuple[int, ...]]:
        """The prompt within each context template, and the row of the KL term."""
        self.prepare([])
        assert self.templates is not None
        return [row.ids for row in edit_rows(self.host, request, self.templates, train_eos=self.config.train_eos)]

    def write(self, batch: Sequence[EditRequest], recording: Recording, receipt: EditReceipt) -> None:
        """Find the values on the current weights, then spread them over the layers."""
        self.prepare(batch)
        assert self.templates is not None and self._grams is not None
        host, layers, solvers = self.host, self.config.layers, self._grams
        values = optimise_values(host, batch, self.templates, layers[-1], AT_LAYER, self.config)
        targets = torch.stack([value.target for value in values], dim=1)  # (d, n)
        subjects = Subjects(host, batch, self.templates, layers)
        spread(subjects, targets, lambda layer, keys: solvers[layer].solve(keys), host, recording)
        receipt.losses.update({r.id: [terms[0] for terms in v.losses] for r, v in zip(batch, values, strict=True)})

    def footprint(self) -> Footprint:
        """The factors of the second moments; they do not grow with the edits."""
        return footprint_of(gram.base for gram in (self._grams or {}).values())
