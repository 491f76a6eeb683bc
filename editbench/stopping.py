"""Conditions under which a run ends early: the edited model has collapsed. They are parsed, never evaluated as code."""

from __future__ import annotations

import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editbench.checks import unknown

HEADLINE = ("reliability", "generality", "locality")
QUANTITIES = ("perplexity_ratio", *HEADLINE, "weight_change", "hidden_change")
"""Compared with a number at each evaluation point."""
NONFINITE = "nonfinite"
"""A likelihood of a record that is scored, or the perplexity, is NaN or infinite."""
_PLAIN = ("perplexity.plain", "perplexity.plain_sample")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_COMPARISON = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*")


@dataclass(frozen=True)
class Condition:
    """A quantity compared with a bound, or "nonfinite" alone."""

    quantity: str
    operator: str = ""
    bound: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Condition:
        """The condition of a setting: "perplexity_ratio > 100", "nonfinite"; a ValueError for anything else."""
        if not isinstance(text, str):
            raise ValueError(f"stream.stop_when: {text!r} is no condition; it must be a text")
        if text.strip() == NONFINITE:
            return cls(NONFINITE)
        if (found := _COMPARISON.fullmatch(text)) is None:
            raise ValueError(
                f"stream.stop_when: {text!r} is no condition; it must be {NONFINITE!r}, or one of "
                f"{', '.join(QUANTITIES)} with >, >=, < or <= and a number, as in 'perplexity_ratio > 100'"
            )
        if found[1] not in QUANTITIES:
            raise unknown("quantity in stream.stop_when", found[1], QUANTITIES)
        return cls(found[1], found[2], float(found[3]))

    def __str__(self) -> str:
        return f"{self.quantity} {self.operator} {self.bound:g}" if self.operator else self.quantity

    def met(self, value: float) -> bool:
        """Whether a value meets it; one that is no finite number does so whatever the bound."""
        return not math.isfinite(value) or _OPERATORS[self.operator](value, self.bound)


@dataclass(frozen=True)
class Collapse:
    """The first point at which a condition was met."""

    edits: int  # in the model
    low: int  # the collapse came with one of the edits from here on: before them the condition was not met
    condition: str


class StopRule:
    """Finds the collapse in a run's rows, batch by batch, from the first: while it runs, and again when it resumes."""

    def __init__(self, conditions: Sequence[str], headline: Mapping[str, str]) -> None:
        self._conditions = [Condition.parse(text) for text in conditions]
        self._headline = headline
        self._sound: dict[Condition, int] = defaultdict(int)  # number of edits at which a condition was last not met
        self._perplexity: dict[str, float] = {}  # of the plain texts, all or a sample, before the first edit

    def __bool__(self) -> bool:
        """Whether there is a condition."""
        return bool(self._conditions)

    def collapse(self, rows: Sequence[Mapping[str, Any]]) -> Collapse | None:
        """The collapse in the rows of one batch, given after those of all batches before it."""
        for row in rows:
            if row["stage"] == "before" and row.get("of") in _PLAIN:
                self._perplexity[row["of"]] = _number(row["scores"].get("perplexity"))
        rows = [row for row in rows if row["stage"] in ("immediate", "interim")]
        for condition in self._conditions:
            if (met := self._met(condition, rows)) is None:
                continue
            edits = int(rows[0]["edits"])
            if met:
                return Collapse(edits, self._sound[condition] + 1, str(condition))
            self._sound[condition] = edits
        return None

    def _met(self, condition: Condition, rows: Sequence[Mapping[str, Any]]) -> bool | None:
        """Whether these rows meet a condition; None if they do not tell."""
        if condition.quantity == NONFINITE:
            return any(map(_not_finite, rows)) if rows else None
        value = self._value(condition.quantity, [row for row in rows if row["stage"] == "interim"])
        return None if value is None else condition.met(value)

    def _value(self, quantity: str, rows: Sequence[Mapping[str, Any]]) -> float | None:
        if quantity in HEADLINE:
            values = [row["scores"].get(self._headline.get(quantity)) for row in rows if row.get("status") == "scored"]
            numbers = [float(value) for value in values if value is not None]
            return sum(numbers) / len(numbers) if numbers else None
        if quantity == "perplexity_ratio":
            texts = [row for row in rows if row.get("of") in self._perplexity]
            ratios = [_number(row["scores"].get("perplexity")) / self._perplexity[row["of"]] for row in texts]
        else:
            drift = [row["scores"] for row in rows if row.get("of") == "drift"]
            ratios = [_number(scores[quantity]) for scores in drift if quantity in scores]
        return ratios[0] if ratios else None


def _number(value: float | None) -> float:
    """A score; NaN for one that was not finite, which is null in a file."""
    return math.nan if value is None else float(value)


def _not_finite(row: Mapping[str, Any]) -> bool:
    if row.get("of") in _PLAIN:
        return not math.isfinite(_number(row["scores"].get("perplexity")))
    asked = [probe for probe in row.get("probes") or () if probe.get("target") is not None]
    return any(not math.isfinite(_number(probe["nll"])) for probe in asked)
