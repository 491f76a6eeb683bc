"""Settings of RECT."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero
from editbench.locate_then_edit.multi_layer import MultiLayerConfig
from editbench.search_space import Range


@dataclass
class RECTConfig(MultiLayerConfig):
    """RElative Change in weighT, on MEMIT. Defaults are the published ones for GPT-2 XL.

    The other fields are those of :class:`~editbench.locate_then_edit.multi_layer.MultiLayerConfig`,
    :class:`~editbench.locate_then_edit.multi_layer.LayersConfig` and
    :class:`~editbench.locate_then_edit.values.ValueConfig`.

    Attributes:
        kept_percent: Percentage of each layer's numbers that change: those with the largest |ΔW / W|.
        remeasure: Cut each layer's update before the next one is measured, so that later layers make up for what was
            cut; False cuts all layers after the last, as published.
    """

    kept_percent: float = field(default=40.0, metadata={"search": Range(5.0, 100.0)})
    remeasure: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(kept_percent=self.kept_percent)
        if self.kept_percent > 100:
            raise ValueError(f"kept_percent is {self.kept_percent}; it must be at most 100")
