"""The model's answers to one probe, of which metrics make numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from editbench.evaluation.judge.prompt import Verdict
    from editbench.model.generation import Generated
    from editbench.model.likelihood import TargetScore
    from editbench.records import Route


@dataclass(frozen=True, slots=True)
class ProbeAnswers:
    """The model's answers to one probe; ``before`` and ``generated_before`` on probes where nothing should change."""

    target: TargetScore  # of the right target
    alternative: TargetScore | None = None  # of the target that should be less likely
    before: TargetScore | None = None  # of the right target, by the unedited model
    gold: str | None = None  # the right target, where one is known
    also: tuple[str, ...] = ()  # its other spellings
    spelling: int = 0  # which of all of them ``target`` is the score of
    generated: Generated | None = None  # if a metric needs it, and the right target fits into the limit
    generated_before: Generated | None = None  # by the unedited model
    verdict: Verdict | None = None  # of a judge on the generated answer
    route: Route | None = None  # edit that the method chooses for the prompt, if it keeps edits beside the weights
    edit: str | None = None  # id of the edit that should answer; None where none should

    @property
    def contrast(self) -> tuple[float, float] | None:
        """NLL of target and alternative, where both are scored."""
        other = self.alternative
        return None if other is None or not (self.target.tokens and other.tokens) else (self.target.nll, other.nll)

    @property
    def finite(self) -> bool:
        """Whether the model gave numbers for all that it was asked; metrics of a model that gave none may be 0."""
        return all(answer.finite for answer in (self.target, self.alternative, self.generated) if answer is not None)

    def compared(self, compare: Callable[[str, str], float]) -> float | None:
        """A comparison of the generated answer and the right target, where both are there; NaN logits make it 0.

        Of several spellings the one that fits best counts.
        """
        if self.generated is None or self.gold is None:
            return None
        text = self.generated.text
        return float(self.generated.finite and max(compare(text, gold) for gold in (self.gold, *self.also)))
