"""Settings of AlphaEdit."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero
from editbench.locate_then_edit.multi_layer import LayersConfig
from editbench.search_space import Range


@dataclass
class AlphaEditConfig(LayersConfig):
    """Null-space constrained editing. Defaults are the published ones for GPT-2 XL.

    The other fields are those of :class:`~editbench.locate_then_edit.multi_layer.LayersConfig` and
    :class:`~editbench.locate_then_edit.values.ValueConfig`.

    Attributes:
        nullspace_threshold: Eigenvalue of C below which a direction is kept; absolute, so that it belongs to a model.
        l2: Weight of ‖Δ‖² against the keys of the edits; the paper has 1, the published code 10.
    """

    nullspace_threshold: float = field(default=0.02, metadata={"search": Range(1e-4, 1.0, log=True)})
    l2: float = field(default=10.0, metadata={"search": Range(0.01, 100.0, log=True)})

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(nullspace_threshold=self.nullspace_threshold, l2=self.l2)
