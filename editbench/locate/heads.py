"""Beginnings that rows share (a context template, a common phrase): their keys and values are computed once for all.

Only tokens decide: rows are sorted, neighbours with enough common tokens are one cluster, and what all rows of a
cluster begin with is its head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from editbench.locate.partial import Columns

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_SHARED = 4
"""Rows with fewer common tokens are not put together."""


@dataclass(frozen=True)
class Heads:
    """Clusters of rows.

    Attributes:
        tokens: The head of each cluster that has one.
        head: For each row, the index of its head (0 if it has none).
        shared: For each row, the length of its head (0 if it has none).
    """

    tokens: list[tuple[int, ...]]
    head: list[int]
    shared: list[int]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Heads:
        """The heads of ``rows``; give rows without the tokens that must not be part of one."""
        members: list[list[int]] = []
        lengths: list[int] = []
        previous: Sequence[int] = ()
        for i in sorted(range(len(rows)), key=lambda i: tuple(rows[i])):
            common = _common(previous, rows[i])
            if members and common >= LEAST_SHARED:
                members[-1].append(i)
                lengths[-1] = min(lengths[-1], common)
            else:
                members.append([i])
                lengths.append(len(rows[i]))
            previous = rows[i]
        tokens: list[tuple[int, ...]] = []
        head, shared = [0] * len(rows), [0] * len(rows)
        for cluster, length in zip(members, lengths, strict=True):
            if len(cluster) > 1:
                for i in cluster:
                    head[i], shared[i] = len(tokens), length
                tokens.append(tuple(rows[cluster[0]][:length]))
        return cls(tokens, head, shared)

    def columns(self, pad_id: int, device: torch.device) -> Columns:
        """The heads as rows, padded on the right."""
        return Columns.pad(self.tokens, [0] * len(self.tokens), pad_id, device)


def place(taken: Sequence[int], width: int, device: torch.device) -> torch.Tensor:
    """Which token of its head stands in each of ``width`` columns, (B, width), if row i takes its first ``taken[i]``.

    They stand as far right as they can; columns left of them are padding and get token 0.
    """
    columns = torch.arange(width, device=device)[None, :]
    return (columns - (width - torch.tensor(taken, device=device)[:, None])).clamp(min=0)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading tokens that two rows have in common."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count
