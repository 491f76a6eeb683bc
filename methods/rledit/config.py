"""Settings of RLEdit."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero, at_least, one_of
from editbench.gradient_based.module_gradients import EDITWISE, LOSSES, PUBLISHED
from editbench.gradient_based.network_config import NetworkConfig

EXACT = "exact"


@dataclass
class RLEditConfig(NetworkConfig):
    """RLEdit. Defaults are the published ones; layers, and the size of a group, are ours.

    The others are those of :class:`~editbench.gradient_based.network_config.NetworkConfig`.

    Attributes:
        group: Training records that are edited at once.
        sequence: Groups whose changes stay in the model before it is the first again, and the network makes one step;
            null as published: all groups of an epoch.
        time_decay: Weight of the losses of the group before, and again of the one before that.
        back_depth: Groups whose losses count after an edit: the edited one, and those before it.
        regularisation: Factor of ‖ΔW‖²; that of the published code has no gradient, so that it is 0.
        loss: "editwise": the sum over edits of the mean NLL of their tokens; or "published": the mean over all tokens
            of a pass, by which an update depends on the number of edits beside it; null: as published where merge is.
        merge: "exact", or "published": the spread of a batch of r rows counts r / (r - 1) times too much.
        locality_gradient: "exact", or "published": the divergence is differentiated at the weights before the edit.
    """

    layers: list[int] = field(default_factory=lambda: list(range(18, 27)))
    group: int = 20
    sequence: int | None = None
    time_decay: float = 0.95
    back_depth: int = 10
    regularisation: float = 0.0
    loss: str | None = None
    merge: str = EXACT
    locality_gradient: str = EXACT

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, group=self.group, sequence=self.sequence, back_depth=self.back_depth)
        at_least(0, regularisation=self.regularisation)
        above_zero(time_decay=self.time_decay)
        self.loss = self.loss or (PUBLISHED if self.merge == PUBLISHED else EDITWISE)
        one_of(tuple(LOSSES), loss=self.loss)
        one_of((EXACT, PUBLISHED), merge=self.merge)
        one_of((EXACT, PUBLISHED), locality_gradient=self.locality_gradient)
