"""Which rows to run together: padding costs time, and so does running one more group."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

GROUP_TOKENS = {"cpu": 24, "cuda": 1024}
"""Running one more group of rows costs as much as this many tokens (the time to launch its kernels)."""


def partition(lengths: Sequence[int], device: torch.device, most: int | None = None) -> list[list[int]]:
    """Split rows into groups of similar length, so that Σ (rows · longest) + what the groups cost is least.

    Args:
        lengths: Columns that each row needs.
        device: Where they are run; it decides what a group costs.
        most: Groups of more than this many tokens are cut; None leaves them whole.

    Returns:
        Indices of the rows of each group; short rows first.
    """
    overhead = GROUP_TOKENS.get(device.type, GROUP_TOKENS["cuda"])
    kinds = sorted(set(lengths))
    count = [sum(1 for length in lengths if length == kind) for kind in kinds]
    best: list[tuple[int, int]] = [(0, 0)]  # for the first k kinds: cost, and where their last group starts
    for k in range(1, len(kinds) + 1):
        best.append(min((best[j][0] + sum(count[j:k]) * kinds[k - 1] + overhead, j) for j in range(k)))
    groups, k = [], len(kinds)
    while k:
        j = best[k][1]
        group = [i for i, length in enumerate(lengths) if kinds[j] <= length <= kinds[k - 1]]
        rows = len(group) if most is None else max(1, most // max(1, kinds[k - 1]))
        groups += [group[i : i + rows] for i in range(0, len(group), rows)][::-1]
        k = j
    return groups[::-1]
