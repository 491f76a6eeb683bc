"""Settings of MELO."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero, at_least, one_of, rising
from editbench.memory_based.projection import PROJECTIONS
from editbench.search_space import Layers, Range

SOUND, PUBLISHED = "sound", "published"


@dataclass
class MELOConfig:
    """LoRA blocks on later layers, chosen by an index of clusters.

    Defaults are those that ship for GPT2-XL.

    Attributes:
        layers: The first is that of the index: its projection's output at a prompt's last token is the key. The
            projections of the others get the blocks; that of the first, if it is alone.
        projection: "first" or "second" projection of the layers' MLPs, for index and blocks.
        rank: Of a block.
        edits_per_block: Edits that are trained together, as one block.
        scale: A block adds scale · x A B.
        radius: Of a new cluster, in the unit of the keys.
        steps: Adam steps of a block.
        learning_rate: Adam's; halved every 20 steps.
        rules: "sound", or "published": keys behind the answer, labels compared by their sums. See README.md.
        per_token: With a cache of keys and values each generated token is looked up anew, as published.
        train_eos: Edits close the answer with the EOS token.
    """

    layers: list[int] = field(default_factory=lambda: [35, 36, 37], metadata={"search": Layers(of=48, least=2, most=3)})
    projection: str = "first"
    rank: int = field(default=2, metadata={"search": Range(1, 16, log=True)})
    edits_per_block: int = 4
    scale: float = field(default=350.0, metadata={"search": Range(1.0, 400.0, log=True)})
    radius: float = field(default=0.5, metadata={"search": Range(0.1, 30.0, log=True)})
    steps: int = field(default=50, metadata={"search": Range(20, 100)})
    learning_rate: float = field(default=1e-3, metadata={"search": Range(1e-4, 1e-1, log=True)})
    rules: str = SOUND
    per_token: bool = False
    train_eos: bool = False

    def __post_init__(self) -> None:
        at_least(1, rank=self.rank, edits_per_block=self.edits_per_block, steps=self.steps)
        above_zero(scale=self.scale, radius=self.radius, learning_rate=self.learning_rate)
        rising(layers=self.layers)
        one_of(PROJECTIONS, projection=self.projection)
        one_of((SOUND, PUBLISHED), rules=self.rules)

    @property
    def layer(self) -> int:
        """Layer of the index."""
        return self.layers[0]

    @property
    def lora_layers(self) -> list[int]:
        """Layers that get the blocks."""
        return self.layers[1:] or self.layers
