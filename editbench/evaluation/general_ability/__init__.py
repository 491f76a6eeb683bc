"""General ability: the tests that a protocol names, their numbers, and the facts that readers of the numbers need.

A test is the embedded world's own (``pocket_world.py``), which needs nothing to download, facts of the run's dataset
that the unedited model knows (``known_facts.py``), tasks asked from files (``glue.py``), or tasks of lm-eval
(``lm_eval.py``), an extra. Only the modules of named tests are imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import fmean, stdev, variance
from typing import TYPE_CHECKING, Any

from editbench.config import ProtocolConfig
from editbench.evaluation.metrics import describe
from editbench.results.schema import DIFFERENCE, SHARE, MetricFacts, Range

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Answering

POCKET, KNOWN, GLUE = "pocket", "known", "glue_"
"""Names of built-in tests, and the beginning of others; every other name is lm-eval's."""
GLUE_TASKS = ("sst2", "mrpc", "cola", "rte", "mmlu", "nli")
"""Names behind :data:`GLUE`."""

NSE_TASKS = ("sst2", "mrpc", "cola", "rte", "mmlu", "mnli")
"""The six tasks of NSE's figure (Jiang et al. 2024) by lm-eval's names; NLI is MultiNLI there."""

_RECALL = "editbench: facts of the embedded world whose object is the argmax after "

POCKET_FACTS: dict[str, MetricFacts] = {
    name: describe(title, source=source, range=SHARE, higher_is_better=True)
    for name, title, source in (
        ("recall", "recall", f"{_RECALL}trained prompts"),
        ("held_out", "recall, held out", f"{_RECALL}held-out prompts"),
        ("choice", "choice", "editbench: prompts after which it is likelier than each other object of its relation"),
    )
}

KNOWN_FACTS: dict[str, MetricFacts] = {
    "recall": describe("recall", source="editbench: facts known before the edits", range=SHARE, higher_is_better=True)
}

GLUE_FACTS: dict[str, MetricFacts] = {
    name: describe(name, source="editbench: prompts of its own", range=within, higher_is_better=True)
    for name, within in (("acc", SHARE), ("f1", SHARE), ("mcc", DIFFERENCE))
}

LM_EVAL_RANGES = {**dict.fromkeys(("acc", "acc_norm", "exact_match", "em", "f1"), SHARE), "mcc": DIFFERENCE}
"""F1 of some tasks is in per cent."""

LM_EVAL_FACTS: dict[str, MetricFacts] = {
    name: describe(name, source="lm-eval", range=None if name == "f1" else within, higher_is_better=True)
    for name, within in LM_EVAL_RANGES.items()
}


@dataclass(frozen=True)
class Ability:
    """Numbers of one test, by metric."""

    test: str
    scores: Mapping[str, float]  # NaN where the model gave no numbers
    stderr: Mapping[str, float]  # standard errors, where there are any; never 0 where the range is known
    n: int  # items (facts, documents) behind the scores
    ranges: Mapping[str, Range] = field(default_factory=dict)  # where they are known

    def row(self) -> dict[str, Any]:
        """The test's part of a row of the model."""
        numbers = {"scores": dict(self.scores), "stderr": dict(self.stderr), "n": self.n}
        return {"of": f"ability.{self.test}", **numbers, "ranges": {k: list(ends) for k, ends in self.ranges.items()}}

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


class AbilityTest:
    """A test of one ability, or of several."""

    def load(self) -> None:
        """Get the data, before the model is loaded; a ValueError that names the test if they cannot be had."""

    def learn(self, lm: LanguageModel) -> None:
        """Ask the unedited model what the test needs to know of it; before :meth:`measure`, and when a run resumes."""

    def measure(self, lm: LanguageModel, editor: Answering | None = None) -> list[Ability]:
        """Test the model, and leave it as it was; without an editor, which comes first, it is the unedited one."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """Versions that decide the numbers besides the settings, for the run's provenance."""
        return {}


def is_built_in(name: str) -> bool:
    """Whether a test is editbench's own; every other is lm-eval's."""
    return name in (POCKET, KNOWN, *(f"{GLUE}{task}" for task in GLUE_TASKS))


def ability_tests(
    protocol: ProtocolConfig, seed: int, known_facts: Callable[[], Sequence[tuple[str, str]]] | None = None
) -> list[AbilityTest]:
    """The tests of ``protocol.ability.tasks``, not yet loaded; an unknown one is a ValueError.

    ``known_facts`` reads facts of the dataset that no stream edits: prompts and true answers.
    """
    ability, tests, at_once = protocol.ability, list[Any](), protocol.tokens_per_batch
    names = list(dict.fromkeys(ability.tasks))
    if POCKET in names:
        from editbench.evaluation.general_ability.pocket_world import PocketAbility

        tests.append(PocketAbility(tokens_per_batch=at_once))
    if KNOWN in names:
        from editbench.evaluation.general_ability.known_facts import KnownFacts

        tests.append(KnownFacts(known_facts or list, at_once))
    for name in (name.removeprefix(GLUE) for name in names if is_built_in(name) and name.startswith(GLUE)):
        from editbench.evaluation.general_ability.glue import Glue

        tests.append(Glue(name, ability.glue_path, ability.limit, at_once))
    if others := [name for name in names if not is_built_in(name)]:
        settings = {name: getattr(ability, name) for name in ("limit", "num_fewshot", "include_path", "batch_size")}
        tests.append(lm_eval_tasks(others, seed=seed, tokens_per_batch=at_once, **settings))
    return tests


def lm_eval_tasks(tasks: Sequence[str], **settings: Any) -> AbilityTest:
    """A test for tasks of lm-eval; settings as in :class:`~editbench.evaluation.general_ability.lm_eval.Harness`."""
    if find_spec("lm_eval") is None:
        raise ValueError(
            f"the ability tests {', '.join(tasks)} are lm-eval's, which is not installed: "
            f'pip install "editbench[lm-eval]" (built in: {POCKET}, {KNOWN}, {GLUE}…)'
        )
    from editbench.evaluation.general_ability.lm_eval import Harness

    return Harness(tasks, **settings)


def facts(names: Iterable[str]) -> dict[str, MetricFacts]:
    """Facts of the numbers of these tests, by "<test>.<name>"; of lm-eval's those of its common metrics."""
    own = {POCKET: POCKET_FACTS, KNOWN: KNOWN_FACTS}
    known = {n: own.get(n, GLUE_FACTS if is_built_in(n) else LM_EVAL_FACTS) for n in names}
    return {f"{test}.{name}": fact for test, of_test in known.items() for name, fact in of_test.items()}
