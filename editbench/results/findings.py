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
    """The best method, and those whose score lies within the interval of its score."""
    best, *others = sorted(points, key=lambda method: (-_score(points[method]), method))
    low = number(points[best], "score_low")
    level = [method for method in others if low is not None and _score(points[method]) >= low]
    words = f"{best} leads with a score of {_score(points[best]):.2f}"
    if level:
        verb = "lies" if len(level) == 1 else "lie"
        return f"{words}, and within its interval {verb} {_listed([_named(m, points[m]) for m in level])}"
    return f"{words}, next is {_named(others[0], points[others[0]])}" if others else words


def _collapses(before: dict[str, Row], after: dict[str, Row], edits: int) -> str:
    pairs = {method: (_score(before[method]), _score(after[method])) for method in before if method in after}
    fallen = [f"{m} ({a:.2f} to {b:.2f})" for m, (a, b) in sorted(pairs.items()) if b < COLLAPSED * a]
    if not fallen:
        return f"None has collapsed: each keeps at least half of the score that it had after {edits} edits."
    have, scores = ("has", "its score") if len(fallen) == 1 else ("have", "their scores")
    others = "; the others have not" if len(fallen) < len(pairs) else ""
    return f"{_listed(fallen)} {have} collapsed to less than half of {scores} after {edits} edits{others}."


def _score(point: Row) -> float:
    return number(point, "score") or 0.0


def _named(method: str, point: Row) -> str:
    return f"{method} ({_score(point):.2f})"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
