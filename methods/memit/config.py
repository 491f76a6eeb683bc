"""Settings of MEMIT."""

from __future__ import annotations

from dataclasses import dataclass

from editbench.locate.spread import SpreadSettings


@dataclass
class MEMITConfig(SpreadSettings):
    """Mass-Editing Memory in a Transformer: nothing beyond the settings of every spreading method.

    See :class:`~editbench.locate.spread.SpreadSettings` and :class:`~editbench.locate.values.ValueSettings` for the
    fields; the defaults there are MEMIT's published ones for GPT-2 XL.
    """
