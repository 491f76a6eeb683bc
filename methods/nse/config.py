"""Settings of NSE."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero, at_least, one_of
from editbench.locate_then_edit.multi_layer import MultiLayerConfig
from editbench.search_space import Range

SELECTIONS = ("published", "smallest")
MEMORIES = ("all", "kept", "none")


@dataclass
class NSEConfig(MultiLayerConfig):
    """Neuron-level Sequential Editing. Defaults are the published ones for GPT-2 XL.

    The other fields are those of :class:`~editbench.locate_then_edit.multi_layer.MultiLayerConfig` and
    :class:`~editbench.locate_then_edit.values.ValueConfig`.

    Attributes:
        covariance_weight: λ, the weight of C against the keys of the edits.
        alpha: Lower bound of ‖z − h‖ for an edit to take part in a round.
        upper_bound: Upper bound of the same.
        max_iterations: Largest number of rounds plus one.
        neuron_threshold: p, the share of the summed scores that the selected neurons may have; 1 takes all neurons.
        selection: "published": the largest prefix (by falling score) that does not exceed p; "smallest": the smallest
            set that reaches p, as the paper says (one neuron more).
        memory: Keys remembered after a batch: those of "all" its edits (published), of those "kept" in at least one
            round, or of "none".
        rewind: Optimise values on the original weights; false takes the current ones, as MEMIT does (the ablation).
    """

    covariance_weight: float = field(default=10_000.0, metadata={"search": Range(10.0, 100_000.0, log=True)})
    alpha: float = field(default=35.0, metadata={"search": Range(0.5, 100.0, log=True)})
    upper_bound: float = 150.0
    max_iterations: int = 3
    neuron_threshold: float = 1.0
    selection: str = "published"
    memory: str = "all"
    rewind: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, alpha=self.alpha)
        at_least(2, max_iterations=self.max_iterations)
        above_zero(neuron_threshold=self.neuron_threshold)
        one_of(SELECTIONS, selection=self.selection)
        one_of(MEMORIES, memory=self.memory)
        if not self.upper_bound > self.alpha:
            raise ValueError(
                f"upper_bound is {self.upper_bound} and alpha {self.alpha}: no ‖z − h‖ lies between; raise upper_bound"
            )
