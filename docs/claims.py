"""What the two papers claim, each as comparisons of figures that the study measures; ``docs/study_tables.py`` decides.

A claim holds where every comparison does, does not hold where none does, and holds in part otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Figure:
    """One measured number: a column of the one run of a sweep that has these values and settings."""

    words: str
    sweep: str  # a file of results/reference/study
    measure: str
    where: Mapping[str, Any] = field(default_factory=dict)  # columns, or "method.NAME" settings


@dataclass(frozen=True)
class Comparison:
    """One figure ahead of another: outside of both intervals, or with ``keeps`` not behind it outside of both."""

    better: Figure
    worse: Figure
    keeps: bool = False
    small: bool = False  # the smaller is better


@dataclass(frozen=True)
class Claim:
    """A claim in our words; ``paper`` is where it is made."""

    paper: str
    words: str
    comparisons: tuple[Comparison, ...]
    why: str  # the likely reason of what was found; a reason without a run begins with "Conjecture"


def _of(method: str, measure: str = "score", sweep: str = "embedded", **where: Any) -> Figure:
    return Figure(method, sweep, measure, {"method": method, **where})


def _against(ahead: str, others: tuple[str, ...], datasets: tuple[str, ...]) -> tuple[Comparison, ...]:
    measure = {"hallucination": "reliability"}
    return tuple(
        Comparison(
            _of(ahead, measure.get(dataset, "score"), dataset=dataset),
            _of(other, measure.get(dataset, "score"), dataset=dataset),
        )
        for dataset in datasets
        for other in others
    )
