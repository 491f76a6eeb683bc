"""Settings of LoRA."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero, at_least, rising
from editbench.search_space import Choice, Range


@dataclass
class LoRAConfig:
    """One low-rank adapter, trained on edit after edit. Defaults are the published ones for Llama-2-7B.

    Attributes:
        modules: Names of the modules that get an adapter, as peft's ``target_modules`` ("q_proj"); null for peft's own
            choice for the architecture (queries and values).
        layers: Layers with adapters, rising; none for all.
        rank: Rank of the adapters.
        alpha: Their output is scaled by alpha / rank.
        dropout: Of the adapters' inputs in training.
        steps: Adam steps on a batch.
        learning_rate: Adam's.
        weight_decay: Adam's.
        stop_loss: Training stops below this loss.
        train_eos: Train the EOS token behind the target.
    """

    modules: list[str] | None = None
    layers: list[int] = field(default_factory=list)
    rank: int = field(default=8, metadata={"search": Choice((2, 4, 8, 16))})
    alpha: float = 32.0
    dropout: float = 0.1
    steps: int = field(default=70, metadata={"search": Range(5, 70)})
    learning_rate: float = field(default=5e-3, metadata={"search": Range(1e-4, 5e-2, log=True)})
    weight_decay: float = 0.0
    stop_loss: float = 1e-2
    train_eos: bool = False

    def __post_init__(self) -> None:
        at_least(1, rank=self.rank, steps=self.steps)
        above_zero(alpha=self.alpha, learning_rate=self.learning_rate)
        if self.layers:
            rising(layers=self.layers)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0, and below 1")
