"""ROME: one rank-one update of one MLP for one fact.

Meng et al., "Locating and Editing Factual Associations in GPT", NeurIPS 2022, section 3.1: u = C⁻¹k̄ / ‖C⁻¹k̄‖ (the
direction of the key; k̄ / ‖k̄‖ without covariance adjustment), v = (target − W k) / (k·u) (equation 2), W ← W + v uᵀ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.editor import Capabilities, EditResult, Footprint
from editbench.ledger import LowRank, Transaction
from editbench.locate_then_edit.covariance import covariance_for, matrix_device
from editbench.locate_then_edit.editor import SubjectEditor
from editbench.locate_then_edit.room import FACTORED, of_covariance, of_values
from editbench.locate_then_edit.shifted_forward import AT_MLP
from editbench.locate_then_edit.solver import SOLVE_MATRICES, factor
from editbench.locate_then_edit.templates import templates_for
from editbench.locate_then_edit.values import Value, optimise_values
from editbench.model.devices import in_float64
from editbench.records import EditError, EditRequest
from editbench.room import Room, of_changes

from .config import ROMEConfig

if TYPE_CHECKING:
    from editbench.model.shape import Shape
    from editbench.room import Workload


class ROME(SubjectEditor[ROMEConfig]):
    """Edits one fact at a time; C and the context templates are those of the unedited model."""

    title = "ROME"
    paper = "Meng et al., NeurIPS 2022 (arXiv 2202.05262)"
    config_class = ROMEConfig
    capabilities = Capabilities(needs_subject=True, needs_covariance=True, max_batch=1)
    version = 2

    _factor: Tensor | None = None  # Cholesky factor of C (+ ridge), float64; None without covariance_adjustment

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Make the templates, and the covariance if it is needed, from the unedited model."""
        if self.templates is not None:
            return
        plan = [("", tokens, count) for tokens, count in self.config.template_lengths]
        with self.ledger.pristine():
            templates = templates_for(self.lm, self.resources.templates, plan, self.resources.seed)
            if self.config.covariance_adjustment:
                self._factor = self._covariance_factor()
        self.templates = templates

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Optimise the value, compute the keys, and apply v uᵀ."""
        self.prepare(batch)
        (request,) = batch
        assert self.templates is not None
        (value,) = optimise_values(self.lm, batch, self.templates, self.config.layer, AT_MLP, self.config)
        left, right = self._update(request, value)
        transaction.apply(LowRank(self.lm.mlp_out_name(self.config.layer), left[:, None], right[:, None]))
        result.losses[request.id] = [terms[0] for terms in value.losses]

    @classmethod
    def room(cls, config: ROMEConfig, shape: Shape, work: Workload) -> Room:
        """The factor of the covariance, if there is one, and the optimisation of one edit's value."""
        sampled = [tokens + 1 for tokens, count in config.template_lengths for _ in range(count)]
        values = of_values(shape, work, config.layer, work.contexts(sampled), 1)
        change = work.batch * (shape.inputs(config.layer) + shape.width) * shape.wide
        written = of_changes([shape.weight(config.layer)], shape, work, change) + Room(editing=values)
        if not config.covariance_adjustment:
            return written
        matrix, taken = shape.covariance(config.layer), of_covariance(shape, [config.layer])
        factored = round((1 + FACTORED) * matrix)
        return written + Room(kept=matrix, preparing=max(taken.preparing, factored), cache=matrix)

    def footprint(self) -> Footprint:
        """The factor of the covariance, if there is one."""
        return Footprint.of([] if self._factor is None else [self._factor])

    def _covariance_factor(self) -> Tensor:
        c = self.config
        found = covariance_for(self.lm, [c.layer], self.resources, c.covariance_tokens)
        covariance = found[c.layer].to(matrix_device(self.lm, c.layer, SOLVE_MATRICES))
        return factor(covariance, c.ridge, f"the covariance of layer {c.layer}")

    def _update(self, request: EditRequest, value: Value) -> tuple[Tensor, Tensor]:
        """Factors v (d) and u (d_ff). W k is ``value.init``, of the bare prompt on these weights."""
        mean = value.keys.mean(0)
        u = self._direction(mean)
        key = value.keys[0] if self.config.key == "published" else mean
        scale = key @ u
        if not bool(scale.abs() > 0):
            raise EditError([request.id], "the key is orthogonal to u, or not finite: no update gives the value")
        return (value.target - value.init) / scale, u

    def _direction(self, mean: Tensor) -> Tensor:
        """Unit vector u (d_ff) along C⁻¹k̄, or along the mean key k̄ (d_ff) without covariance adjustment."""
        direction = in_float64(mean)
        if self._factor is not None:
            direction = torch.cholesky_solve(direction[:, None].to(self._factor.device), self._factor)[:, 0]
        unit: Tensor = (direction / direction.norm()).to(mean)
        return unit
