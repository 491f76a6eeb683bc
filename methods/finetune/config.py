"""Settings of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import at_least, one_of
from editbench.gradient_based.training_rows import OBJECTIVES, TARGET
from editbench.search_space import Layer, Range


@dataclass
class FineTuneConfig:
    """Fine-tuning of one weight. Defaults are the published ones of FT-L for GPT-2 XL, but for the ``objective``.

    Attributes:
        layer: Layer whose second MLP projection is trained.
        steps: Adam steps.
        learning_rate: Adam's.
        weight_decay: Adam's.
        norm_bound: Largest change of any trained number within one edit (L∞); null for no bound (FT).
        stop_loss: Training stops below this loss.
        objective: Trained tokens: the "target"'s, each behind the ones before it (FT-M); the same, all at the prompt's
            last token ("prompt_last", the published FT-L); or those of prompt and target ("text").
        replay: Earlier edits, drawn anew for each batch, that are trained with it.
        ewc: Weight of elastic weight consolidation, λ of λ/2 Σ F (W − W₀)²; 0 for none.
        ewc_tokens: Tokens of plain text over which the Fisher information F of the unedited model is taken.
        train_bias: Train the projection's bias, too, if it has one (GPT-2, GPT-J), as the published code does.
        train_eos: Train the EOS token behind the target; the published code does not.
    """

    layer: int = field(default=0, metadata={"search": Layer(of=48)})
    steps: int = field(default=25, metadata={"search": Range(5, 50)})
    learning_rate: float = field(default=5e-4, metadata={"search": Range(1e-5, 1e-2, log=True)})
    weight_decay: float = 0.0
    norm_bound: float | None = field(default=5e-4, metadata={"search": Range(1e-5, 0.1, log=True)})
    stop_loss: float = 1e-2
    objective: str = TARGET
    replay: int = 0
    ewc: float = 0.0
    ewc_tokens: int = 4000
    train_bias: bool = True
    train_eos: bool = False

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, ewc_tokens=self.ewc_tokens)
        at_least(0, replay=self.replay, ewc=self.ewc)
        one_of(OBJECTIVES, objective=self.objective)
        if self.norm_bound is not None and self.norm_bound <= 0:
            raise ValueError(f"norm_bound is {self.norm_bound}; it must be positive, or null for no bound")
