"""The order in which several ledgers changed a weight of one model: only the last may change or restore it.

An earlier one's copies lack the later changes. Rolled back in reverse order, each finds the weight as it left it.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Protocol
from weakref import ReferenceType, WeakKeyDictionary, ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class Changing(Protocol):
    """What a ledger shows here."""

    def holds(self, name: str) -> bool:
        """Whether it holds a change of the weight."""

    @property
    def edited_ids(self) -> list[str]:
        """Ids of its edits."""


Stack = list[ReferenceType[Changing]]
_STACKS: WeakKeyDictionary[torch.nn.Module, dict[str, Stack]] = WeakKeyDictionary()
"""By model and weight: the ledgers that changed it, the last one last; some may hold no change of it any more."""


def make_last(model: torch.nn.Module, name: str, ledger: Changing) -> tuple[bool, list[str]]:
    """Note that a ledger changes a weight now.

    Returns whether it was the last one already, and, if it cannot be made the last, the ids of the edits by which
    others changed the weight since ("…" for a change without ids).
    """
    stack, mine = _STACKS.setdefault(model, {}).setdefault(name, []), ref(ledger)
    if stack and stack[-1] is mine:
        return True, []
    if mine in stack and ledger.holds(name):
        later = stack[stack.index(mine) + 1 :]
        if _edits(later, name):
            gc.collect()  # ledgers that nobody has any more may wait for it
        if ids := _edits(later, name):
            return False, ids
    stack[:] = [one for one in stack if one is not mine and (other := one()) is not None and other.holds(name)]
    stack.append(mine)
    return False, []


def _edits(stack: Sequence[ReferenceType[Changing]], name: str) -> list[str]:
    holding = [other for one in stack if (other := one()) is not None and other.holds(name)]
    return [id for other in holding for id in other.edited_ids or ["…"]]
