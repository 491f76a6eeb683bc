"""Settings of ROME."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import at_least, one_of
from editbench.locate_then_edit.values import ValueConfig
from editbench.search_space import Layer

KEYS = ("published", "consistent")


@dataclass
class ROMEConfig(ValueConfig):
    """Rank-One Model Editing. Defaults are the published ones for GPT-2 XL.

    The other fields are those of :class:`~editbench.locate_then_edit.values.ValueConfig`.

    Attributes:
        layer: Edited layer.
        key: "published": averaged key in u, bare key in v; "consistent": the averaged key in both (r-ROME).
        covariance_adjustment: u is C⁻¹k̄, as published for GPT-2 and GPT-J; False: k̄ itself, as published for Llama
            models, without need for text, ``covariance_tokens`` or ``ridge``.
        template_lengths: (tokens, count) of the sampled context templates; "{}" always comes first.
        covariance_tokens: Tokens of plain text for the covariance; null for all texts given.
        ridge: Added to C's diagonal, as a fraction of its mean; 0 as published.
    """

    layer: int = field(default=17, metadata={"search": Layer(of=48)})
    key: str = "published"
    covariance_adjustment: bool = True
    template_lengths: list[list[int]] = field(default_factory=lambda: [[5, 10], [10, 10]])
    covariance_tokens: int | None = None
    ridge: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(KEYS, key=self.key)
        at_least(1, covariance_tokens=self.covariance_tokens)
        at_least(0, layer=self.layer, ridge=self.ridge)
        for pair in self.template_lengths:
            if len(pair) != 2 or min(pair) < 1:
                raise ValueError(f"template_lengths holds {pair}; each entry must be [tokens, count], both at least 1")
