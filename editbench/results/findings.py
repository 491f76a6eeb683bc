"""What one sees in the points of several methods over one stream, in two sentences: who leads, and who collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.results.columns import number
from editbench.results.table_layout import CONTROL

if TYPE_CHECKING:
    from editbench.results.schema import Row

COLLAPSED = 0.5
"""A method has collapsed whose score at the last point is below this share of that at the first."""
IDLE = 0.1
"""A method whose score is below this at both points hardly edits, and cannot collapse."""


@dataclass(frozen=True)
class _Score:
    """A method's measure at a point, and the lower end of its interval."""

    value: float
    low: float | None

    def __str__(self) -> str:
        return f"{self.value:.2f}"


_Scores = dict[str, _Score]  # by method


def findings(points: Sequence[Row], measure: str = "score") -> list[str]:
    """Two sentences on the points of :func:`~editbench.results.points.points_of`; none without a method's measure."""
    scores: dict[int, _Scores] = {}  # by number of edits; the control does not compete
    for point in points:
        value = number(point, measure)
        if point["method"] != CONTROL and value is not None:
            found = _Score(value, number(point, f"{measure}_low"))
            scores.setdefault(int(point["edits"] or 0), {})[str(point["method"])] = found
    if not scores:
        return []
    first, last = min(scores), max(scores)
    if first == last:
        return [f"After {first} edits {_leaders(scores[first], measure)}."]
    return [
        f"After {first} edits {_leaders(scores[first], measure)}; after {last} {_leaders(scores[last], measure)}.",
        _collapses(scores[first], scores[last], f"{measure} after {first} edits"),
    ]


def _leaders(scores: _Scores, measure: str) -> str:
    """The best methods, and those whose score lies within the interval of the best score."""
    order = sorted(scores, key=lambda method: (-scores[method].value, method))
    top = scores[order[0]]
    best = [method for method in order if str(scores[method]) == str(top)]
    others = order[len(best) :]
    level = [method for method in others if top.low is not None and scores[method].value >= top.low]
    words = f"{_listed(best)} {'leads' if len(best) == 1 else 'lead'} with a {measure} of {top}"
    if level:
        verb = "lies" if len(level) == 1 else "lie"
        return f"{words}, and within its interval {verb} {_listed([f'{m} ({scores[m]})' for m in level])}"
    return f"{words}, next is {others[0]} ({scores[others[0]]})" if others else words


def _collapses(before: _Scores, after: _Scores, measure: str) -> str:
    both = sorted(before.keys() & after.keys())
    idle = [method for method in both if max(before[method].value, after[method].value) < IDLE]
    falls = {m: f"{m} ({before[m]} to {after[m]})" for m in both if m not in idle}
    fallen = [falls[method] for method in falls if after[method].value < COLLAPSED * before[method].value]
    found = []
    if fallen:
        have = "has" if len(fallen) == 1 else "have"
        found.append(f"{_listed(fallen)} {have} collapsed to less than half of the {measure}")
    elif falls:
        most = min(falls, key=lambda method: after[method].value - before[method].value)
        found.append(f"None has collapsed to less than half of its {measure}, {falls[most]} fell most")
    if idle:
        found.append(f"{_listed(idle)} hardly {'edits' if len(idle) == 1 else 'edit'} at all")
    return "; ".join(found) + "."


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
