"""Settings of an architecture that editbench does not know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ArchitectureConfig:
    """Module paths for an unknown architecture: fields of :class:`editbench.model.architectures.Architecture`.

    Attributes:
        decoder: The decoder, from the model's root ("model").
        layers: The list of decoder layers, from the model's root ("model.layers").
        attention: The attention, from a layer ("self_attn").
        mlp_in: The first projections of the MLP, from a layer (["mlp.gate_proj", "mlp.up_proj"]).
        mlp_out: The second projection of the MLP, from a layer ("mlp.down_proj").
        head: The output head, from the model's root ("lm_head").
    """

    decoder: str | None = None
    layers: str | None = None
    attention: str | None = None
    mlp_in: list[str] | None = None
    mlp_out: str | None = None
    head: str | None = None
