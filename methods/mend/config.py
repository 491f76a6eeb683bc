"""Settings of MEND."""

from __future__ import annotations

from dataclasses import dataclass

from editbench.checks import at_least
from editbench.gradient_based.network_config import NetworkConfig


@dataclass
class MENDConfig(NetworkConfig):
    """MEND. Defaults are the paper's, with layers for GPT-J 6B.

    The others are those of :class:`~editbench.gradient_based.network_config.NetworkConfig`.

    Attributes:
        batch: Edits whose mean gradient is a step of Adam.
    """

    rank: int = 1920
    blocks: int = 2
    learning_rate: float = 1e-4
    network_learning_rate: float = 1e-6
    rate_learning_rate: float | None = 1e-4
    edit_weight: float = 0.1
    locality_weight: float = 1.0
    gradient_clip: float = 100.0
    batch: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, batch=self.batch)
