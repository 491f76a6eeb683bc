"""MEND: the rank-one parts of an edit's gradient, transformed by a trained network.

Mitchell et al., "Fast Model Editing at Scale", ICLR 2022. Shapes: N tokens of prompt and target, inputs u (N, d_in) of
an edited module, gradients δ (N, d_out) of the loss at its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from editbench.gradient_based.module_gradients import MOVING
from editbench.gradient_based.network_editor import NetworkEditor
from editbench.gradient_based.network_training import Plan
from editbench.gradient_based.normalisation import normalised

from .config import MENDConfig

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.gradient_based.normalisation import Normaliser
    from editbench.model.shape import Shape


class MEND(NetworkEditor[MENDConfig]):
    """ΔW = -α Σ δ̃ ũᵀ over the tokens, where the network has made δ̃ and ũ of δ and u."""

    title = "MEND"
    paper = "Mitchell et al., ICLR 2022"
    config_class = MENDConfig
    version = 3
    scale_inside = True
    tokens = MOVING
    own_prompt = True

    def names(self, layer: int) -> list[str]:
        """All projections of the layer's MLP."""
        architecture = self.lm.architecture
        return [f"{architecture.layers}.{layer}.{path}" for path in (*architecture.mlp_in, architecture.mlp_out)]

    @classmethod
    def sizes(cls, shape: Shape, layers: Sequence[int]) -> list[tuple[int, int]]:
        """(in, out) of all projections of these layers' MLPs."""
        return [size for layer in layers for size in shape.projections(layer).values()]

    def factors(
        self, name: str, inputs: Tensor, gradients: Tensor, normaliser: Normaliser | None
    ) -> tuple[Tensor, Tensor]:
        """-α δ̃ᵀ (d_out, N) and ũᵀ (d_in, N): equation 3 and algorithm 2."""
        z = self.network(name, normalised(normaliser, (inputs, gradients)))
        width = inputs.shape[1]
        return -self.network.learning_rate(name).to(z) * z[:, width:].T, z[:, :width].T

    def plan(self) -> Plan:
        """Each edit alone on the first weights."""
        return Plan(group=1, sequence=1, accumulate=self.config.batch)
