"""Settings of Defer."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero, at_least, one_of
from editbench.memory_based.irrelevant import IrrelevantConfig
from editbench.memory_based.projection import PROJECTIONS
from editbench.search_space import Layer, Range


@dataclass
class DeferConfig(IrrelevantConfig):
    """A side network beside one projection, and a gate that decides for each prompt whether it answers.

    Attributes:
        layer: Layer of the projection.
        projection: "first" or "second" projection of the layer's MLP.
        width: Hidden units of the side network.
        steps: Adam steps of an edit batch, for both networks.
        learning_rate: Of the side network.
        gate_learning_rate: Of the gate.
        irrelevant_prompts: Irrelevant prompts of an edit, which the gate learns to leave to the model.
        threshold: The side network answers where the gate exceeds this.
        per_token: With a cache of keys and values the gate decides anew for each generated token.
        train_eos: Edits close the answer with the EOS token.
    """

    layer: int = field(default=35, metadata={"search": Layer(of=48)})
    projection: str = "second"
    width: int = field(default=16, metadata={"search": Range(4, 64, log=True)})
    steps: int = field(default=50, metadata={"search": Range(10, 100)})
    learning_rate: float = field(default=1e-2, metadata={"search": Range(1e-4, 1e-1, log=True)})
    gate_learning_rate: float = field(default=0.1, metadata={"search": Range(1e-2, 1.0, log=True)})
    irrelevant_prompts: int = field(default=16, metadata={"search": Range(4, 64, log=True)})
    threshold: float = field(default=0.5, metadata={"search": Range(0.1, 0.9)})
    per_token: bool = False
    train_eos: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, width=self.width, steps=self.steps, irrelevant_prompts=self.irrelevant_prompts)
        above_zero(learning_rate=self.learning_rate, gate_learning_rate=self.gate_learning_rate)
        one_of(PROJECTIONS, projection=self.projection)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; it must be above 0 and below 1")
