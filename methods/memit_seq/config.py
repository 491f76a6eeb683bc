"""Settings of MEMIT_seq."""

from __future__ import annotations

from dataclasses import dataclass

from editbench.locate_then_edit.multi_layer import MultiLayerConfig


@dataclass
class MEMITSeqConfig(MultiLayerConfig):
    """MEMIT with a memory of earlier keys. Defaults are MEMIT's published ones for GPT-2 XL.

    All fields are those of :class:`~editbench.locate_then_edit.multi_layer.MultiLayerConfig`,
    :class:`~editbench.locate_then_edit.multi_layer.LayersConfig` and
    :class:`~editbench.locate_then_edit.values.ValueConfig`.
    """
