"""Which rows to run together: padding costs time, and so does running one more group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from editbench.model.packed_targets import Row


@dataclass(frozen=True)
class PaddedBatch:
    """A padded batch of token rows.

    Attributes:
        ids: (B, T) int64.
        mask: (B, T) int64, 1 at tokens. Rows may be padded on both sides.
        positions: (B, T) int64, counted from each row's first token; padding behind has the last token's.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor

    @classmethod
    def pad(cls, rows: Sequence[Sequence[int]], align: Sequence[int], pad_id: int, device: torch.device) -> PaddedBatch:
        """Pad ``rows`` so that token ``align[i]`` of every row i stands in the same column, ``max(align)``."""
        left = max(align)
        width = left + max(len(row) - at for row, at in zip(rows, align, strict=True))
        ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, (row, at) in enumerate(zip(rows, align, strict=True)):
            ids[i, left - at : left - at + len(row)] = torch.tensor(row, dtype=torch.long)
            mask[i, left - at : left - at + len(row)] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return cls(ids.to(device), mask.to(device), positions.to(device))

    def rows(self, index: Tensor) -> PaddedBatch:
        """The rows in ``index``, in its order."""
        return PaddedBatch(self.ids[index], self.mask[index], self.positions[index])

    def upto(self, width: int) -> PaddedBatch:
        """The first ``width`` columns."""
        return PaddedBatch(self.ids[:, :width], self.mask[:, :width], self.positions[:, :width])


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


def batches(rows: Iterable[Row], tokens_per_batch: int) -> Iterator[list[Row]]:
    """Rows of similar width, longest first (too large a batch fails at once), padded size within the budget.

    A row that exceeds the budget on its own is a batch of its own.
    """
    batch: list[Row] = []
    for row in sorted(rows, key=lambda r: -r.width):
        if batch and (len(batch) + 1) * batch[0].width > tokens_per_batch:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
