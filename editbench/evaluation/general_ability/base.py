"""Types of tests of general ability: a test, its numbers, and the facts that readers of the numbers need."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean, stdev, variance
from typing import TYPE_CHECKING, Any, Protocol

from editbench.evaluation.metrics import describe
from editbench.results.schema import DIFFERENCE, SHARE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Answering
    from editbench.results.schema import MetricFacts, Range

POCKET = "pocket"
"""The built-in test's name; every other name is lm-eval's."""

NSE_TASKS = ("sst2", "mrpc", "cola", "rte", "mmlu", "mnli")
"""The six tasks of NSE's figure (Jiang et al. 2024) by lm-eval's names; its NLI is MultiNLI."""

_RECALL = "editbench: facts of the embedded world whose object is the argmax after "

POCKET_FACTS: dict[str, MetricFacts] = {
    name: describe(title, source=source, range=SHARE, higher_is_better=True)
    for name, title, source in (
        ("recall", "recall", f"{_RECALL}trained prompts"),
        ("held_out", "recall, held out", f"{_RECALL}held-out prompts"),
        ("choice", "choice", "editbench: prompts after which it is likelier than each other object of its relation"),
    )
}

LM_EVAL_RANGES: dict[str, Range] = {
    **dict.fromkeys(("acc", "acc_norm", "exact_match", "em", "f1"), SHARE),
    "mcc": DIFFERENCE,
}
"""F1 of some tasks is in per cent."""

LM_EVAL_FACTS: dict[str, MetricFacts] = {
    name: describe(name, source="lm-eval", range=None if name == "f1" else within, higher_is_better=True)
    for name, within in LM_EVAL_RANGES.items()
}


@dataclass(frozen=True)
class Ability:
    """Numbers of one test.

    Attributes:
        test: The test's name.
        scores: By metric; NaN where the model gave no numbers.
        stderr: Standard errors by metric, where there are any; never 0 where the range is known.
        n: Items (facts, documents) behind the scores.
        ranges: The range of each metric where it is known.
    """

    test: str
    scores: Mapping[str, float]
    stderr: Mapping[str, float]
    n: int
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The test's part of a :class:`~editbench.results.schema.ModelRow`."""
        ranges = {name: list(within) for name, within in self.ranges.items()}
        scores, stderr = dict(self.scores), dict(self.stderr)
        return {"of": f"ability.{self.test}", "scores": scores, "stderr": stderr, "n": self.n, "ranges": ranges}

    @classmethod
    def of_items(cls, test: str, values: Mapping[str, Sequence[float]]) -> Ability:
        """Means over items of each metric's shares by item, with s / √n; all metrics have the same items."""
        n = len(next(iter(values.values())))
        means = {name: fmean(v) for name, v in values.items()}
        errors = {name: math.sqrt(variance(v) / n) if n > 1 else 0.0 for name, v in values.items()}
        errors = {name: error or error_of_equals(means[name], n, SHARE) for name, error in errors.items()}
        return cls(test, means, errors, n, dict.fromkeys(values, SHARE))


def error_of_equals(mean: float, n: int, within: Range) -> float:
    """Standard error of a mean over equal items, with one more item at either end of the range: s / √n would be 0."""
    return stdev([*within, *[mean] * n]) / math.sqrt(n + 2)


class AbilityTest(Protocol):
    """A test of one ability, or of several."""

    def load(self) -> None:
        """Get the data, before the model is loaded; a ValueError that names the test if they cannot be had."""

    def measure(self, lm: LanguageModel, editor: Answering | None = None) -> list[Ability]:
        """Test the model, and leave it as it was; without an editor, which comes first, it is the unedited one."""

    def about(self) -> dict[str, Any]:
        """Versions that decide the numbers besides the settings, for the run's provenance."""
