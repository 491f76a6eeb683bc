"""Settings of WISE."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero, at_least, one_of
from editbench.memory_based.irrelevant import IrrelevantConfig
from editbench.memory_based.projection import PROJECTIONS
from editbench.search_space import Layer, Range

SOUND, PUBLISHED = "sound", "published"
RETRIEVE, MERGE = "retrieve", "merge"
DENSE, SPARSE = "dense", "sparse"


@dataclass
class WISEConfig(IrrelevantConfig):
    """Side memories of one projection's weight W. Each edit has one irrelevant prompt.

    Defaults are those that ship for Llama-2-7B.

    Attributes:
        layer: Layer of the projection.
        projection: "first" or "second" projection of the layer's MLP.
        steps: Steps of gradient descent for an edit.
        learning_rate: Of these.
        weight_decay: Of these.
        alpha: Scores of irrelevant prompts above this are pushed down.
        beta: Scores of edits below this are pushed up.
        gamma: Scores of edits shall exceed those of irrelevant prompts by this.
        act_ratio: A memory may answer above this share of the smallest score of its edits.
        mask_ratio: Share of W's numbers that a shard may change.
        norm_bound: Largest change of a number.
        save_every: Edits of a shard.
        merge_every: Edits after which shards are merged into one memory; a multiple of ``save_every``.
        density: Share of numbers, the largest changes, that each memory brings into a merge.
        variant: "retrieve", merged memories stand side by side; "merge", all are merged into one.
        old_weight: In "merge", the weight of the memory that earlier merges left; new shards share the rest.
        activation: Scores compare activations A(f(x)) instead of f(x), as published.
        rules: "sound", or "published", the rows, means and decay of the published code. See README.md.
        memory_store: "dense" or "sparse" (changed numbers alone): both exact.
        per_token: With a cache of keys and values each generated token chooses anew, as published.
        train_eos: Edits close the answer with the EOS token.
    """

    layer: int = field(default=27, metadata={"search": Layer(of=32)})
    projection: str = "second"
    steps: int = field(default=70, metadata={"search": Range(10, 100)})
    learning_rate: float = field(default=1.0, metadata={"search": Range(0.01, 3.0, log=True)})
    weight_decay: float = 1e-5
    alpha: float = field(default=5.0, metadata={"search": Range(0.1, 20.0, log=True)})
    beta: float = field(default=20.0, metadata={"search": Range(0.5, 50.0, log=True)})
    gamma: float = field(default=10.0, metadata={"search": Range(0.2, 30.0, log=True)})
    act_ratio: float = field(default=0.88, metadata={"search": Range(0.3, 1.0)})
    mask_ratio: float = 0.2
    norm_bound: float = 1.0
    save_every: int = 500
    merge_every: int = 1000
    density: float = 0.53
    variant: str = RETRIEVE
    old_weight: float = 0.6
    activation: bool = False
    rules: str = SOUND
    memory_store: str = SPARSE
    per_token: bool = False
    train_eos: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, steps=self.steps, save_every=self.save_every)
        above_zero(learning_rate=self.learning_rate, act_ratio=self.act_ratio, norm_bound=self.norm_bound)
        for name in ("mask_ratio", "density"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0 and at most 1")
        if not 0 <= self.old_weight < 1:
            raise ValueError(f"old_weight is {self.old_weight}; it must be from 0 to below 1")
        if self.merge_every < self.save_every or self.merge_every % self.save_every:
            raise ValueError(f"merge_every={self.merge_every} must be a multiple of save_every={self.save_every}")
        one_of(PROJECTIONS, projection=self.projection)
        one_of((RETRIEVE, MERGE), variant=self.variant)
        one_of((SOUND, PUBLISHED), rules=self.rules)
        one_of((DENSE, SPARSE), memory_store=self.memory_store)
