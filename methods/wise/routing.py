"""Routing: the memory that answers a prompt, by the scores of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from editbench.records import Route

from .config import PUBLISHED, WISEConfig

if TYPE_CHECKING:
    from torch import Tensor

    from .memories import Memory


def chosen(memories: Sequence[Memory], scores: Tensor, opened: bool, config: WISEConfig) -> list[tuple[int, float]]:
    """For each prompt the place of the memory that answers, -1 for none, and the largest score / threshold.

    Of the memories whose score exceeds ``act_ratio`` times their edits' smallest score the one with the largest score
    answers. The published code begins with the open shard, whose score must be exceeded also where it is too small.

    Args:
        memories: K of them, the open shard last if there is one (``opened``).
        scores: (B, K).
    """
    thresholds = [config.act_ratio * memory.minimum for memory in memories]
    found = []
    for row in scores.tolist():
        best, most = -1, float("-inf")
        candidates = list(range(len(row)))
        if config.rules == PUBLISHED and opened:
            last = candidates.pop()
            best, most = (last if row[last] >= thresholds[last] else -1), row[last]
        for k in candidates:
            if row[k] > thresholds[k] and row[k] > most:
                best, most = k, row[k]
        shares = [score / threshold for score, threshold in zip(row, thresholds, strict=True) if threshold > 0]
        found.append((best, max(shares, default=0.0)))
    return found


def route(memories: Sequence[Memory], place: int, share: float) -> Route:
    """The route for :func:`chosen`: a memory goes by its first edit's id."""
    if place < 0:
        return Route(None, share)
    first, *others = memories[place].edits
    return Route(first, share, tuple(others))
