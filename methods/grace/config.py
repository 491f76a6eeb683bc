"""Settings of GRACE."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import above_zero, at_least, one_of
from editbench.memory_based.projection import PROJECTIONS
from editbench.search_space import Layer, Range

SOUND, PUBLISHED, EASYEDIT = "sound", "published", "easyedit"
LAST, WHOLE, PROMPT = "last", "all", "prompt"
COLD, WARM = "cold", "warm"
COVERAGE, MOVING_AVERAGE = "coverage", "moving_average"


@dataclass
class GRACEConfig:
    """A codebook of keys, values and radii beside one projection.

    Defaults are those that ship for GPT2-XL.

    Attributes:
        layer: Layer of the projection.
        projection: "first" or "second" projection of the layer's MLP: its input is the key, its output the value.
        steps: Adam steps of a value.
        learning_rate: Adam's.
        radius: Of a new entry, in the unit of the projection's input.
        replacement: Tokens whose output a value replaces: "last", the prompt's last one; "prompt", all of the prompt;
            "all", those generated, too.
        value_init: Start of a value: "cold", uniform in [0, 1); "warm", the layer's own output at the key's token.
        expand: What an edit with an entry's answer just outside its radius does: "coverage", the radius grows;
            "moving_average", the key moves half way, too.
        rules: "sound", or "published", how the authors' code compares, splits and expands; "easyedit" looks up labels
            in reversed order besides. See README.md.
        per_token: With a cache of keys and values each generated token is looked up anew, as published.
        train_eos: Values learn to close the answer with the EOS token.
        edits_at_once: Values trained together.
    """

    layer: int = field(default=35, metadata={"search": Layer(of=48)})
    projection: str = "first"
    steps: int = field(default=200, metadata={"search": Range(20, 200, log=True)})
    learning_rate: float = field(default=1.0, metadata={"search": Range(0.01, 2.0, log=True)})
    radius: float = field(default=1.0, metadata={"search": Range(0.1, 30.0, log=True)})
    replacement: str = LAST
    value_init: str = COLD
    expand: str = COVERAGE
    rules: str = SOUND
    per_token: bool = False
    train_eos: bool = False
    edits_at_once: int = 32

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, edits_at_once=self.edits_at_once)
        above_zero(learning_rate=self.learning_rate, radius=self.radius)
        one_of(PROJECTIONS, projection=self.projection)
        one_of((LAST, PROMPT, WHOLE), replacement=self.replacement)
        one_of((COLD, WARM), value_init=self.value_init)
        one_of((COVERAGE, MOVING_AVERAGE), expand=self.expand)
        one_of((SOUND, PUBLISHED, EASYEDIT), rules=self.rules)
