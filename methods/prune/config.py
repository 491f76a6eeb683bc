"""Settings of PRUNE."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from editbench.checks import one_of
from editbench.locate_then_edit.multi_layer import MultiLayerConfig
from editbench.search_space import Range

MODES = ("intended", "published")


@dataclass
class PRUNEConfig(MultiLayerConfig):
    """Perturbation restraint on upper bound for editing, on MEMIT. Defaults are the published ones for GPT-2 XL.

    The other fields are those of :class:`~editbench.locate_then_edit.multi_layer.MultiLayerConfig`,
    :class:`~editbench.locate_then_edit.multi_layer.LayersConfig` and
    :class:`~editbench.locate_then_edit.values.ValueConfig`.

    Attributes:
        mode: "intended": the restrained change takes the place of the change; "published": it is added to it, as the
            published code does.
        log_base: Base of the logarithm; e as in the published code.
    """

    mode: str = "intended"
    log_base: float = field(default=math.e, metadata={"search": Range(1.05, 10.0)})

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(MODES, mode=self.mode)
        if not self.log_base > 1:
            raise ValueError(f"log_base is {self.log_base}; it must be above 1")
