"""Settings of EMMET."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import at_least
from editbench.locate_then_edit.multi_layer import MultiLayerConfig
from editbench.search_space import Layers, Range


@dataclass
class EMMETConfig(MultiLayerConfig):
    """Equality-constrained Mass Model Editing in a Transformer. Defaults are EasyEdit's for GPT-2 XL.

    The other fields are those of :class:`~editbench.locate_then_edit.multi_layer.MultiLayerConfig`,
    :class:`~editbench.locate_then_edit.multi_layer.LayersConfig` and
    :class:`~editbench.locate_then_edit.values.ValueConfig`.

    Attributes:
        layers: Edited layers; one in the published files.
        covariance_weight: λ, the weight of C against ``key_ridge``; without effect where that is 0.
        key_ridge: Added to the diagonal of Kᵀ(λC)⁻¹K: 0 for exact constraints, 1 for MEMIT.
    """

    layers: list[int] = field(default_factory=lambda: [17], metadata={"search": Layers(of=48, least=1, most=1)})
    covariance_weight: float = field(default=10_000.0, metadata={"search": Range(10.0, 100_000.0, log=True)})
    key_ridge: float = field(default=0.1, metadata={"search": Range(1e-4, 1.0, log=True)})

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, key_ridge=self.key_ridge)
