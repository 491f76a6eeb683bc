"""Facts that a metric declares beside its formula, and the decorator that registers it by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from editbench.checks import unknown
from editbench.results.schema import SHARE, MetricFacts, Range

if TYPE_CHECKING:
    from collections.abc import Callable

NEEDS = ("generation", "unedited", "route", "free_text")


@dataclass(frozen=True, slots=True)
class Metric:
    """A formula with its facts.

    Attributes:
        name: The function's name.
        score: From :class:`~editbench.evaluation.metrics.ProbeAnswers`, or for "free_text" from
            :class:`~editbench.evaluation.fluency.GeneratedTexts`, to a number; None where the formula does not apply.
        description: The function's docstring: the formula.
        needs: As :func:`metric` has it.
        facts: As :func:`describe` has them.
    """

    name: str
    score: Callable[[Any], float | None]
    description: str
    needs: str | None
    facts: MetricFacts

    @property
    def version(self) -> int:
        """Another number for another formula."""
        return self.facts["version"]

    @property
    def share(self) -> bool:
        """Whether all its numbers are shares, so that they may be averaged into the score."""
        return self.facts["range"] == SHARE


Formula = TypeVar("Formula", bound="Callable[[Any], float | None]")

REGISTERED: dict[str, Metric] = {}


def describe(
    title: str,
    *,
    source: str,
    version: int = 1,
    range: Range | None = None,
    higher_is_better: bool | None = None,
    digits: int = 3,
    seeds: str = "mean",
    tolerance: float | None = None,
) -> MetricFacts:
    """The facts of a number; see :class:`~editbench.results.schema.MetricFacts`."""
    return MetricFacts(
        title=title,
        version=version,
        range=None if range is None else (float(range[0]), float(range[1])),
        higher_is_better=higher_is_better,
        digits=digits,
        seeds=seeds,
        tolerance=tolerance,
        source=source,
    )


def metric(*, version: int, needs: str | None = None, **facts: Any) -> Callable[[Formula], Formula]:
    """Register a function as a metric under its own name, which its entry point in another package must repeat.

    Args:
        version: Another number for another formula.
        needs: "generation" (generated answers), "unedited" (the unedited model's scores), "route" (the method's choice
            of an edit), "free_text" (the formula is one of generated texts), or None.
        facts: The others of :func:`describe`; by default those of a share of which more is better.
    """
    if needs is not None and needs not in NEEDS:
        raise unknown("need of a metric", needs, NEEDS)
    known = describe(**{"range": SHARE, "higher_is_better": True, "tolerance": 0.02, "version": version, **facts})

    def register(score: Formula) -> Formula:
        name = score.__name__
        other = REGISTERED.get(name)
        if other is not None and other.score.__module__ != score.__module__:
            raise ValueError(f"the metric {name!r} is defined by {other.score.__module__} and by {score.__module__}")
        REGISTERED[name] = Metric(name, score, inspect.getdoc(score) or "", needs, known)
        return score

    return register
