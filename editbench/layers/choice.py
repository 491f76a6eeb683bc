"""From one number a layer to the layers to edit.

The rule, for a sweep's scores and for a trace's effects alike:

1. ROME's layer is the one with the largest number; of equal ones the earliest.
2. MEMIT and NSE edit a range of consecutive layers, at most :data:`LONGEST` and at most a quarter of the model's. Its
   end is ROME's layer, moved up while the next layer was measured, too, and is within :data:`CLOSE` of the largest
   number, but not so far that ROME's layer would leave the range.

The published settings were made by hand in this spirit: a range of five or six layers that holds ROME's layer, or ends
at it (17 and 13-17 for GPT-2 XL, 5 and 3-8 for GPT-J, 5 and 4-8 for Llama).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 5
"""Layers of a range, as in most published settings."""
CLOSE = 0.05
"""How far below the largest number, as a share of it, a layer may be to count as good as the best."""


@dataclass(frozen=True)
class Choice:
    """What to edit: ROME's layer, the range for MEMIT and NSE, and the number that decided."""

    layer: int
    layers: tuple[int, ...]
    by: str


def choose(values: Mapping[int, float], n_layers: int, by: str) -> Choice | None:
    """Apply the rule.

    Args:
        values: A number for each measured layer, larger is better.
        n_layers: Layers of the model.
        by: Name of the number.

    Returns:
        The choice, or None where no number is above zero: nothing speaks for any layer.
    """
    best = max(values, key=lambda layer: (values[layer], -layer), default=None)
    if best is None or not values[best] > 0:
        return None
    length = max(1, min(LONGEST, n_layers // 4))
    end = best
    while end + 1 < best + length and values.get(end + 1, 0.0) >= (1 - CLOSE) * values[best]:
        end += 1
    return Choice(best, tuple(range(max(0, end - length + 1), end + 1)), by)
