"""Settings of ROME."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ROMEConfig:
    """Rank-One Model Editing. Defaults are the published ones for GPT-2 XL.

    Attributes:
        layer: Edited layer.
        steps: Forward passes of the value optimisation.
        learning_rate: Adam's, for the value.
        weight_decay: Factor of ‖δ‖ / ‖init‖².
        kl_factor: Factor of the KL term at "{subject} is a".
        clamp_norm_factor: ‖δ‖ stays at or below this times ‖init‖.
        stop_loss: The optimisation stops below this loss.
        key: "published": averaged key in u, bare key in v; "consistent": the averaged key in both (r-ROME).
        template_lengths: (tokens, count) of the sampled context templates; "{}" always comes first.
        moment_tokens: Plain-text tokens over which the second moment is taken; null for all texts given.
        ridge: Added to C's diagonal, as a fraction of its mean; 0 as published.
    """

    layer: int = 17
    steps: int = 20
    learning_rate: float = 0.5
    weight_decay: float = 0.5
    kl_factor: float = 0.0625
    clamp_norm_factor: float = 4.0
    stop_loss: float = 0.05
    key: str = "published"
    template_lengths: list[list[int]] = field(default_factory=lambda: [[5, 10], [10, 10]])
    moment_tokens: int | None = None
    ridge: float = 0.0

    def __post_init__(self) -> None:
        if self.key not in ("published", "consistent"):
            raise ValueError(f'rome: key is {self.key!r}; it must be "published" or "consistent"')
        if self.steps < 1:
            raise ValueError(f"rome: steps is {self.steps}; it must be at least 1")
