"""General ability: what is left of a model besides the facts that edits change.

A test is anything that can :meth:`~AbilityTest.measure` a model: the embedded world's own questions
(``pocket_world.py``), which need nothing, or tasks of lm-eval (``lm_eval.py``), an extra. Both ask the edited model as
every other measure does: the editor is told where each prompt ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import fmean, stdev, variance
from typing import TYPE_CHECKING, Any, Protocol

from editbench.evaluation.metrics import SHARE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Answering


POCKET = "pocket"
"""The built-in test's name; every other name is lm-eval's."""

NSE_TASKS = ("sst2", "mrpc", "cola", "rte", "mmlu", "mnli")
"""The six of NSE's figure (Jiang et al. 2024) by lm-eval's names; its NLI is MultiNLI."""


@dataclass(frozen=True)
class Ability:
    """What one test says of a model.

    Attributes:
        test: The test's name.
        scores: By metric; NaN where the model gave no numbers.
        stderr: Standard errors by metric, where there are any; never 0 where the range is known.
        n: Items (facts, documents) behind the scores.
        ranges: Between which values a metric lies, where that is known.
    """

    test: str
    scores: Mapping[str, float]
    stderr: Mapping[str, float]
    n: int
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The part of an :class:`~editbench.results.schema.ModelRow` that is the test's own."""
        ranges = {name: list(within) for name, within in self.ranges.items()}
        scores, stderr = dict(self.scores), dict(self.stderr)
        return {"of": f"ability.{self.test}", "scores": scores, "stderr": stderr, "n": self.n, "ranges": ranges}

    @classmethod
    def of_items(cls, test: str, values: Mapping[str, Sequence[float]]) -> Ability:
        """Means over items from each metric's shares by item, with s / √n; all metrics have the same items."""
        n = len(next(iter(values.values())))
        means = {name: fmean(v) for name, v in values.items()}
        errors = {name: math.sqrt(variance(v) / n) if n > 1 else 0.0 for name, v in values.items()}
        errors = {name: error or error_of_equals(means[name], n, SHARE) for name, error in errors.items()}
        return cls(test, means, errors, n, dict.fromkeys(values, SHARE))


def error_of_equals(mean: float, n: int, within: tuple[float, float]) -> float:
    """The standard error of a mean over items that are all alike: as if there were one more at either end of the range.

    Their own, s / √n, would be 0, however few they are.
    """
    return stdev([*within, *[mean] * n]) / math.sqrt(n + 2)


class AbilityTest(Protocol):
    """Measures one ability, or several."""

    def load(self) -> None:
        """Get what is needed, before the model is loaded.

        Raises:
            ValueError: It cannot be had; names the test.
        """

    def measure(self, lm: LanguageModel, editor: Answering | None = None) -> list[Ability]:
        """Test the model as it stands now.

        Args:
            lm: The model; it is left as it was.
            editor: The editor at work; None for the unedited model, which is measured first.
        """

    def about(self) -> dict[str, Any]:
        """What decides the numbers besides the settings: versions, for the run's provenance."""


def lm_eval_tasks(tasks: Sequence[str], **settings: Any) -> AbilityTest:
    """A test for these tasks of lm-eval; settings as in :class:`~editbench.evaluation.general_ability.lm_eval.Harness`.

    Raises:
        ValueError: lm-eval is not installed, or there is no such task.
    """
    if find_spec("lm_eval") is None:
        raise ValueError(
            f"the ability tests {', '.join(tasks)} are lm-eval's, which is not installed: "
            f'pip install "editbench[lm-eval]" (built in: {POCKET})'
        )
    from editbench.evaluation.general_ability.lm_eval import Harness

    return Harness(tasks, **settings)
