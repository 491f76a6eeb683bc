"""Settings of UltraEdit."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero, at_least, one_of, rising
from editbench.gradient_based.module_gradients import EDITWISE, LOSSES, PUBLISHED
from editbench.search_space import Layers, Range

SHAPE, MODULE = "shape", "module"
EXACT = "exact"


@dataclass
class UltraEditConfig:
    """UltraEdit. Defaults are the published ones for GPT-J 6B.

    Attributes:
        layers: Layers whose second MLP projections are edited, rising.
        modules: Names from the model's root of the linear modules that are edited
            ("model.layers.11.mlp.gate_proj"), in place of those of ``layers``; null for ``layers``.
        learning_rate: Scale of the updates; as published 1e-6, which suits normalised inputs of thousands of numbers.
        ridge: Added to the diagonal of the solve; 1 as published.
        edits_at_once: Edits of one pass.
        loss: "editwise": the sum over edits of the mean NLL of their tokens; or "published": the mean over all tokens
            of a pass, by which an update depends on the number of edits beside it; null: as published where merge is.
        statistics: Mean and spread for each "shape" of weight, as published, or for each "module".
        merge: "exact", or "published": the spread of a batch of r rows counts r / (r - 1) times too much.
        warm_up: Training records whose inputs and gradients enter the statistics before the first edit (beyond the
            paper): streams of small batches need it.
        train_eos: Train the EOS token behind the target; the published code does not.
    """

    layers: list[int] = field(
        default_factory=lambda: list(range(18, 27)), metadata={"search": Layers(of=28, least=2, most=9)}
    )
    modules: list[str] | None = None
    learning_rate: float = field(default=1e-6, metadata={"search": Range(1e-6, 1.0, log=True)})
    ridge: float = field(default=1.0, metadata={"search": Range(0.01, 100.0, log=True)})
    edits_at_once: int = 10
    loss: str | None = None
    statistics: str = SHAPE
    merge: str = EXACT
    warm_up: int = 0
    train_eos: bool = False

    def __post_init__(self) -> None:
        rising(layers=self.layers)
        above_zero(learning_rate=self.learning_rate, ridge=self.ridge)
        at_least(1, edits_at_once=self.edits_at_once)
        at_least(0, warm_up=self.warm_up)
        self.loss = self.loss or (PUBLISHED if self.merge == PUBLISHED else EDITWISE)
        one_of(tuple(LOSSES), loss=self.loss)
        one_of((SHAPE, MODULE), statistics=self.statistics)
        one_of((EXACT, PUBLISHED), merge=self.merge)
        if self.modules is not None and not self.modules:
            raise ValueError("modules is an empty list; name some modules, or give null for those of layers")
