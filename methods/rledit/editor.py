"""RLEdit: UltraEdit's ancestor, whose values come from a network that was trained on sequences of edits.

Li et al., "Reinforced Lifelong Editing for Language Models", ICML 2025. Shapes: N trained tokens of a batch, inputs H
(N, d_in) of an edited module, gradients G (N, d_out) of the loss at its output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from editbench.gradient_based.editor import BatchStateEditor
from editbench.gradient_based.module_gradients import EDITWISE, LOSSES, PUBLISHED, Seen, shape_of
from editbench.gradient_based.network_editor import NetworkEditor
from editbench.gradient_based.network_training import Plan
from editbench.gradient_based.normalisation import Statistics, add_rows, from_tensors, normalised, to_tensors
from editbench.gradient_based.solve import ridge_factor
from editbench.model.devices import in_float64

from .config import RLEditConfig

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.gradient_based.normalisation import Normaliser
    from editbench.gradient_based.training_rows import TrainingRows
    from editbench.ledger import Transaction


class RLEdit(NetworkEditor[RLEditConfig], BatchStateEditor[RLEditConfig]):
    """Running normalisation as in UltraEdit, a network for keys and values, and a ridge solve."""

    title = "RLEdit"
    paper = "Li et al., ICML 2025"
    config_class = RLEditConfig
    scale_inside = False
    ridge = True
    version = 2

    def names(self, layer: int) -> list[str]:
        """The second projection of the layer's MLP."""
        return [self.lm.mlp_out_name(layer).removesuffix(".weight")]

    def loss(self, rows: TrainingRows, nll: Tensor) -> Tensor:
        """The config's; by the published one an edit's gradient shrinks beside others."""
        return LOSSES[self.config.loss or EDITWISE](rows, nll)

    def factors(
        self, name: str, inputs: Tensor, gradients: Tensor, normaliser: Normaliser | None
    ) -> tuple[Tensor, Tensor]:
        """[(HHᵀ + λ)⁻¹V]ᵀ (d_out, N) and Hᵀ (d_in, N), with V = -lr (h · h̃) g̃ row by row."""
        out = self.network(name, normalised(normaliser, (inputs, gradients)))
        width, rate = inputs.shape[1], self.network.learning_rate(name).to(out)
        values = -rate * (inputs * out[:, :width]).sum(1, keepdim=True) * out[:, width:]
        return ridge_factor(inputs, values, self.network.ridge(name)).T, in_float64(inputs).T

    def plan(self) -> Plan:
        """Sequences of groups, whose earlier ones are asked again."""
        config = self.config
        return Plan(
            group=config.group,
            sequence=config.sequence,
            accumulate=None,
            decay=config.time_decay,
            back=config.back_depth - 1,
            published_merge=config.merge == PUBLISHED,
            published_locality=config.locality_gradient == PUBLISHED,
            regularisation=config.regularisation,
            running=True,
        )

    def statistics_with(self, parts: Sequence[Seen], transaction: Transaction) -> Statistics:
        """The running statistics, this batch included, which go on from the training's."""
        statistics = {key: one.copy() for key, one in self.kept_statistics().items()}
        for seen in parts:
            for name, pair in seen.items():
                add_rows(statistics, shape_of(self.lm, name), pair, self.config.merge == PUBLISHED)
        self.states.keep(self.ledger, transaction, to_tensors(statistics))
        return statistics

    def kept_statistics(self) -> Mapping[str, Normaliser]:
        """Those of the last batch, or of the training."""
        state = self.states.last(self.ledger)
        return from_tensors(state, self.like, self.title) if state else self.trained_statistics

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuse another method's."""
        from_tensors(state, self.like, self.title)
