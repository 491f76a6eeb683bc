"""Settings of MEMIT."""

from __future__ import annotations

from dataclasses import dataclass

from editbench.locate_then_edit.multi_layer import MultiLayerConfig


@dataclass
class MEMITConfig(MultiLayerConfig):
    """Mass-Editing Memory in a Transformer: nothing beyond the settings of every spreading method.

    See :class:`~editbench.locate_then_edit.multi_layer.MultiLayerConfig` and
    :class:`~editbench.locate_then_edit.values.ValueConfig` for the fields; the defaults there are MEMIT's published
    ones for GPT-2 XL.
    """
