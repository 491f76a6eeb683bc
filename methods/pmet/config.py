"""Settings of PMET."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.locate_then_edit.multi_layer import MultiLayerConfig
from editbench.search_space import Layers, Range


@dataclass
class PMETConfig(MultiLayerConfig):
    """Precise Model Editing in a Transformer. Defaults are EasyEdit's for GPT-J.

    The other fields are those of :class:`~editbench.locate_then_edit.multi_layer.MultiLayerConfig`,
    :class:`~editbench.locate_then_edit.multi_layer.LayersConfig` and
    :class:`~editbench.locate_then_edit.values.ValueConfig`, whose δ are two here: of the attention and of the MLP.

    Attributes:
        layers: Edited layers, rising; values are found at the last.
        steps: Forward passes at most.
        learning_rate: Adam's.
        kl_factor: Factor of the KL term.
        covariance_weight: λ, the weight of C against the keys of the edits.
    """

    layers: list[int] = field(default_factory=lambda: [3, 4, 5, 6, 7, 8], metadata={"search": Layers(of=28)})
    steps: int = field(default=30, metadata={"search": Range(10, 50)})
    learning_rate: float = field(default=0.2, metadata={"search": Range(0.02, 1.0, log=True)})
    kl_factor: float = 1.0
    covariance_weight: float = field(default=15_000.0, metadata={"search": Range(10.0, 100_000.0, log=True)})
