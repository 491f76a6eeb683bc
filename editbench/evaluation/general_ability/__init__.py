"""General ability: the tests that a protocol names, and the facts of their numbers.

A test is the embedded world's own (``pocket_world.py``), which needs nothing to download, or tasks of lm-eval
(``lm_eval.py``), an extra. Only the modules of named tests are imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from editbench.evaluation.general_ability.base import LM_EVAL_FACTS, POCKET, POCKET_FACTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from editbench.config import ProtocolConfig
    from editbench.evaluation.general_ability.base import AbilityTest
    from editbench.results.schema import MetricFacts


def ability_tests(protocol: ProtocolConfig, seed: int) -> list[AbilityTest]:
    """The tests of ``protocol.ability.tasks``, not yet loaded; an unknown one is a ValueError."""
    ability, tests = protocol.ability, list[Any]()
    names = list(dict.fromkeys(ability.tasks))
    if POCKET in names:
        from editbench.evaluation.general_ability.pocket_world import PocketAbility

        tests.append(PocketAbility(tokens_per_batch=protocol.tokens_per_batch))
    if others := [name for name in names if name != POCKET]:
        settings = {name: getattr(ability, name) for name in ("limit", "num_fewshot", "include_path", "batch_size")}
        tests.append(lm_eval_tasks(others, seed=seed, tokens_per_batch=protocol.tokens_per_batch, **settings))
    return tests


def lm_eval_tasks(tasks: Sequence[str], **settings: Any) -> AbilityTest:
    """A test for tasks of lm-eval; settings as in :class:`~editbench.evaluation.general_ability.lm_eval.Harness`."""
    if find_spec("lm_eval") is None:
        raise ValueError(
            f"the ability tests {', '.join(tasks)} are lm-eval's, which is not installed: "
            f'pip install "editbench[lm-eval]" (built in: {POCKET})'
        )
    from editbench.evaluation.general_ability.lm_eval import Harness

    return Harness(tasks, **settings)


def facts(names: Iterable[str]) -> dict[str, MetricFacts]:
    """Facts of the numbers of these tests, by "<test>.<name>"; of lm-eval's those of its common metrics."""
    known = {name: POCKET_FACTS if name == POCKET else LM_EVAL_FACTS for name in names}
    return {f"{test}.{name}": fact for test, of_test in known.items() for name, fact in of_test.items()}
