"""Settings of MEMIT."""

from __future__ import annotations

from dataclasses import dataclass

from editbench.locate_then_edit.multi_layer import SpreadSettings


@dataclass
class MEMITConfig(SpreadSettings):
    """Mass-Editing Memory in a Transformer: nothing beyond the settings of every spreading method.

    See :class:`~editbench.locate_then_edit.multi_layer.SpreadSettings` and :class:`~editbench.locate_then_edit.values.ValueSettings` for the
    fields; the defaults there are MEMIT's published ones for GPT-2 XL.
    """
