"""Settings that editors with a trained network share."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero, at_least, rising
from editbench.search_space import Range

TRAINED, UNTRAINED = "trained", "untrained"
EDITING = {"editing": True}
"""Metadata of a field that decides edits alone: networks are trained alike whatever its value."""


@dataclass
class NetworkConfig:
    """Settings of a network that turns inputs and gradients into edits, and of its training.

    Attributes:
        layers: Layers whose MLP is edited, rising.
        modules: Names from the model's root of the linear modules that are edited, in place of those of ``layers``;
            null for ``layers``.
        network: "trained": that of ``editbench train`` or of the package; "untrained": the one that training begins
            with; or a safetensors file of ``editbench train --out``.
        update_scale: Factor of the trained updates; 1 as published.
        rank: Rank of the network's matrices.
        blocks: Residual blocks of the network.
        learning_rate: Scale of a module's updates before training, which trains it too.
        network_learning_rate: Adam's, of the network.
        rate_learning_rate: Adam's, of the modules' learning rates; null for that of the network.
        edit_weight: Factor of the loss on the new answers.
        locality_weight: Factor of the divergence where answers should stay.
        gradient_clip: Largest norm of the network's gradient.
        epochs: Passes over the training records.
        edits_at_once: Edits of one forward and backward pass.
        train_eos: Train the EOS token behind the target; the published code does not.
    """

    layers: list[int] = field(default_factory=lambda: [25, 26, 27])
    modules: list[str] | None = None
    network: str = field(default=TRAINED, metadata=EDITING)
    update_scale: float = field(default=1.0, metadata={"search": Range(0.2, 5.0, log=True), **EDITING})
    rank: int = 1024
    blocks: int = 4
    learning_rate: float = 1e-6
    network_learning_rate: float = 1e-5
    rate_learning_rate: float | None = None
    edit_weight: float = 1.0
    locality_weight: float = 0.6
    gradient_clip: float = 1.0
    epochs: int = 1
    edits_at_once: int = 10
    train_eos: bool = False

    def __post_init__(self) -> None:
        rising(layers=self.layers)
        above_zero(
            update_scale=self.update_scale,
            learning_rate=self.learning_rate,
            network_learning_rate=self.network_learning_rate,
            edit_weight=self.edit_weight,
            gradient_clip=self.gradient_clip,
        )
        at_least(0, rate_learning_rate=self.rate_learning_rate, locality_weight=self.locality_weight)
        at_least(1, rank=self.rank, blocks=self.blocks, epochs=self.epochs, edits_at_once=self.edits_at_once)
        if self.modules is not None and not self.modules:
            raise ValueError("modules is an empty list; name some modules, or give null for those of layers")
