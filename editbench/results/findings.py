"""What one sees in the points of several methods over one stream, in two sentences: who leads, and who collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from editbench.results.columns import number
from editbench.results.table_layout import CONTROL

if TYPE_CHECKING:
    from editbench.results.schema import Row

COLLAPSED = 0.5
"""A method has collapsed whose score at the last point is below this share of that at the first."""
IDLE = 0.1
"""A method whose score is below this at both points hardly edits, and cannot collapse."""


def findings(points: Sequence[Row]) -> list[str]:
    """Two sentences on the points of :func:`~editbench.results.points.points_of`; none without a method's score."""
    scores: dict[int, dict[str, Row]] = {}  # by number of edits and method; the control does not compete
    for point in points:
        if point["method"] != CONTROL and number(point, "score") is not None:
            scores.setdefault(int(point["edits"] or 0), {})[str(point["method"])] = point
    if not scores:
        return []
    first, last = min(scores), max(scores)
    if first == last:
        return [f"After {first} edits {_leaders(scores[first])}."]
    return [
        f"After {first} edits {_leaders(scores[first])}; after {last} {_leaders(scores[last])}.",
        _collapses(scores[first], scores[last], first),
    ]


def _leaders(points: dict[str, Row]) -> str:
    """The best methods, and those whose score lies within the interval of the best score."""
    order = sorted(points, key=lambda method: (-_score(points[method]), method))
    low, top = number(points[order[0]], "score_low"), _two_digits(points[order[0]])
    best = [method for method in order if _two_digits(points[method]) == top]
    others = order[len(best) :]
    level = [method for method in others if low is not None and _score(points[method]) >= low]
    words = f"{_listed(best)} {'leads' if len(best) == 1 else 'lead'} with a score of {top}"
    if level:
        verb = "lies" if len(level) == 1 else "lie"
        return f"{words}, and within its interval {verb} {_listed([_named(m, points[m]) for m in level])}"
    return f"{words}, next is {_named(others[0], points[others[0]])}" if others else words


def _collapses(before: dict[str, Row], after: dict[str, Row], edits: int) -> str:
    idle = sorted(method for method in after if max(_score(of[method]) for of in (before, after)) < IDLE)
    pairs = {m: (_score(before[m]), _score(after[m])) for m in before if m in after and m not in idle}
    fallen = sorted(m for m, (a, b) in pairs.items() if b < COLLAPSED * a)
    falls = {m: f"{m} ({a:.2f} to {b:.2f})" for m, (a, b) in pairs.items()}
    found = []
    if fallen:
        have, scores = ("has", "its score") if len(fallen) == 1 else ("have", "their scores")
        names = _listed([falls[method] for method in fallen])
        found.append(f"{names} {have} collapsed to less than half of {scores} after {edits} edits")
    elif pairs:
        most = min(pairs, key=lambda method: pairs[method][1] - pairs[method][0])
        found.append(f"None has collapsed to less than half of its score after {edits} edits, {falls[most]} fell most")
    if idle:
        found.append(f"{_listed(idle)} hardly {'edits' if len(idle) == 1 else 'edit'} at all")
    return "; ".join(found) + "."


def _score(point: Row) -> float:
    return number(point, "score") or 0.0


def _two_digits(point: Row) -> str:
    return f"{_score(point):.2f}"


def _named(method: str, point: Row) -> str:
    return f"{method} ({_two_digits(point)})"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
